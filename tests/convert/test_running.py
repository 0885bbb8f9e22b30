"""A converted model in the ways large ones are run: offloaded, quantised, compiled."""

import numpy as np
import pytest
import torch

from openferret.convert import Sources, convert_apple
from openferret.model.modeling import FerretForConditionalGeneration
from openferret.parity import reference_geometry

# The sampler multiplies its layers' matrices with each other; the rest is small.
KEPT_WHOLE = ["lm_head", "model.vision_tower", "model.projector", "model.sampler"]


@pytest.fixture(scope="module")
def folder(original, tmp_path_factory):
    given = Sources(original.delta, original.base, original.vision)
    return convert_apple(given, tmp_path_factory.mktemp("running") / "model")


def opened(folder, **options):
    return FerretForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, **options).eval()


@pytest.fixture(scope="module")
def model(folder):
    return opened(folder)


@pytest.fixture(scope="module")
def inputs(model):
    config = model.config
    geometry = reference_geometry(config, [[np.ones((60, 40), np.uint8)]])
    picture = [config.image_token_id] * config.picture_tokens
    return {
        "input_ids": torch.tensor([[1, 5, *picture, 7, config.region_token_id, 8]]),
        "pixel_values": torch.randn(1, 3, 56, 56, generator=torch.Generator().manual_seed(0)),
        "region_points": torch.from_numpy(geometry.points),
        "region_anchors": [torch.from_numpy(one) for one in geometry.anchors],
        "region_neighbors": [torch.from_numpy(one) for one in geometry.neighbors],
        "region_picture": torch.zeros(1, dtype=torch.long),
        "use_cache": False,
    }


def logits(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


def test_layers_that_lie_on_the_disk(folder, model, inputs, tmp_path):
    pytest.importorskip("accelerate")
    parts = (model.model.vision_tower, model.model.projector, model.model.sampler)
    first = sum(one.numel() for part in parts for one in part.parameters()) * 4
    room = {"cpu": first + 300_000}
    offloaded = opened(folder, device_map="auto", max_memory=room, offload_folder=tmp_path)
    assert "disk" in offloaded.hf_device_map.values()
    assert offloaded.hf_device_map["model.sampler"] == "cpu"
    torch.testing.assert_close(logits(offloaded, inputs), logits(model, inputs))


def test_int8_by_torchao(folder, model, inputs):
    quantization = pytest.importorskip("torchao.quantization")
    from transformers import TorchAoConfig

    config = TorchAoConfig(quantization.Int8WeightOnlyConfig(), modules_to_not_convert=KEPT_WHOLE)
    small = opened(folder, quantization_config=config)
    exact = logits(model, inputs)
    assert (logits(small, inputs) - exact).abs().max() < 0.1 * exact.abs().max()


def test_int8_by_bitsandbytes(folder, model, inputs):
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=KEPT_WHOLE)
    small = opened(folder, quantization_config=config)
    exact = logits(model, inputs)
    assert (logits(small, inputs) - exact).abs().max() < 0.1 * exact.abs().max()


@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # inductor's own
@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_as_one_graph(model, inputs, backend):
    # transformers installs its output hooks under a lock at the first call, which no graph can hold.
    expected = logits(model, inputs)
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    torch.testing.assert_close(logits(compiled, inputs), expected, atol=1e-5, rtol=1e-4)
    torch.compiler.reset()
