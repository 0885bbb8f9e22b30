import stat

import torch
from safetensors.torch import save_file

from openferret.weight_files import share_weights


def test_weights_may_be_read_by_whoever_may_read_their_folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "config.json").chmod(0o640)
    weights = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(2)}, weights)
    weights.chmod(0o600)  # as some versions of safetensors leave it
    share_weights(tmp_path)
    assert stat.S_IMODE(weights.stat().st_mode) == 0o640
