"""Outputs of the unmodified reference; they are not part of this repository."""

import json
import os
from pathlib import Path

import numpy as np
import pytest


def _fixtures():
    shared = os.environ.get("OPENFERRET_SHARED")
    repository = Path(__file__).resolve().parents[2]
    folder = (Path(shared) if shared else repository.parent / "shared") / "reference" / "parity"
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def parity():
    folder = _fixtures()
    if folder is None:
        pytest.skip("no parity fixtures: set OPENFERRET_SHARED to the folder that has reference/parity")
    return folder


@pytest.fixture(scope="session")
def read_npz():
    def read(path):
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        meta = json.loads(bytes(arrays.pop("meta"))) if "meta" in arrays else {}
        return arrays, meta

    return read


@pytest.fixture(scope="session")
def converted(parity, tmp_path_factory):
    from openferret.convert import Sources, convert_apple

    return convert_apple(Sources(parity / "model/tiny_ferret"), tmp_path_factory.mktemp("parity") / "tiny")


@pytest.fixture(scope="session")
def toy_processor(parity):
    """The toy tokenizer with the placeholders a converted model has, sized as the paper's model."""
    from transformers import CLIPVisionConfig, LlamaConfig

    from openferret.convert.tokenizer import open_tokenizer
    from openferret.model.configuration import FerretConfig
    from openferret.processing.processor import FerretProcessor

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = FerretConfig(
        vision_config=CLIPVisionConfig(image_size=336, patch_size=14, **sizes),
        text_config=LlamaConfig(vocab_size=601, **sizes),
        region_token_id=600,
        image_token_id=601,
        reference_regions=True,
    )
    return FerretProcessor.for_config(open_tokenizer([parity / "data/toy_tokenizer"], config), config)
