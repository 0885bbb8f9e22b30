import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from openferret.errors import InputError
from openferret.train.stages.detected import Companions, Detection, with_detections
from openferret.train.stages.pictures import Named, Record
from openferret.train.stages.run_trunk import new_optimizer, read_start
from openferret.train.stages.trunk import TrunkModel, sample_batch

LEFT, MIDDLE, RIGHT = (0.0, 0.0, 0.3, 1.0), (0.35, 0.2, 0.6, 0.8), (0.7, 0.0, 1.0, 1.0)
LOW = (0.35, 0.7, 0.7, 1.0)
CLASSES = ("chair", "cup", "dog", "person")


def records():
    said = (Named("a brown dog", "dog", (LEFT,), False),)
    first = Record(0, said, frozenset({"dog"}), False, captions=("a brown dog",), name="a")
    seen = [Detection("person", 0.9, MIDDLE), Detection("chair", 0.9, RIGHT), Detection("chair", 0.8, LOW)]
    second = Record(1, said, frozenset({"dog"}), False, captions=("a brown dog",), name="b")
    return [
        with_detections(first, seen, CLASSES),
        with_detections(second, [Detection("cup", 0.9, RIGHT)], CLASSES),
    ]


@pytest.mark.parametrize("seed", range(4))
def test_a_batch_asks_for_what_a_detector_saw_and_in_vain_for_what_it_did_not(seed):
    taught = records()
    batch = sample_batch(
        *(np.zeros((2, 224, 224, 3), np.uint8), taught, {"dog": 0, "chair": 1, "cup": 2}),
        *(np.random.default_rng(seed), 64),
        companions=Companions.of(taught),
    )
    present = len(batch.boxes)
    asked = [(text.lower(), int(batch.picture[k])) for k, text in enumerate(batch.phrases)]
    assert ("a person", 0) in asked[:present]
    for text, picture in asked[present:]:
        assert text in {"a cup", "a chair", "a person"}
        assert text.split()[1] in taught[picture].absent
    named = [asked[k][0] for k in batch.region_phrases.tolist()]
    assert "a person" not in named, "a detector does not tell men from women"
    for k, (text, picture) in enumerate(asked[:present]):
        if text == "a chair" and not batch.merged[k]:
            assert picture == 0
            assert int(batch.valid[k].sum()) == 2, "a chair is any of both"


def test_only_what_is_named_learns():
    model = TrunkModel(16, nouns=3)
    new_optimizer(model, "locator.presence")
    learning = {name for name, one in model.named_parameters() if one.requires_grad}
    assert learning == {name for name, _ in model.named_parameters() if name.startswith("locator.presence.")}
    optimizer = new_optimizer(model)
    held = {id(one) for group in optimizer.param_groups for one in group["params"]}
    assert not held & {id(one) for one in model.vision.trunk.stages[0].parameters()}
    assert held >= {id(one) for one in model.vision.trunk.stages[6].parameters()}
    with pytest.raises(InputError, match="nothing"):
        new_optimizer(model, "nothing")


@pytest.mark.parametrize("name", ["state.pt", "adapter.safetensors"])
def test_a_start_that_names_other_nouns_is_refused_before_anything_is_trained(tmp_path, name):
    file = tmp_path / name
    weight = torch.ones(2, 3)
    if file.suffix == ".pt":
        torch.save({"average": {"namer.output.weight": weight}, "heads": ["cat", "dog"]}, file)
    else:
        save_file({"model.namer.output.weight": weight}, file, metadata={"nouns": "cat dog"})
    assert torch.equal(read_start(file, ["cat", "dog"])["namer.output.weight"], weight)
    with pytest.raises(InputError, match=r"names 2 nouns.*without --start"):
        read_start(file, ["cat", "fox"])
