"""The whole model against the reference: forward, loss, gradients, greedy decoding."""

import json

import numpy as np
import pytest
import torch

from openferret.convert.names import reference_name
from openferret.errors import InputError
from openferret.parity import open_reference, reference_forward, reference_geometry, reference_logits

BATCH = "model/forward_batch.npz"


@pytest.fixture(scope="module")
def batch(parity, read_npz):
    arrays, meta = read_npz(parity / BATCH)
    counts = [meta.get(f"region_masks/{row}#len") or 0 for row in range(meta["region_masks#len"])]
    return {
        "pixel_values": torch.from_numpy(arrays["images"]),
        "input_ids": torch.from_numpy(arrays["input_ids"]),
        "attention_mask": torch.from_numpy(arrays["attention_mask"]),
        "labels": torch.from_numpy(arrays["labels"]),
        "masks": [[arrays[f"region_masks/{row}/{k}"] for k in range(n)] for row, n in enumerate(counts)],
        "points": [arrays[f"sampled_points/{k}"] for k in range(sum(counts))],
        "anchors": [arrays[f"fps_idx/{k}"] for k in range(2)],
        "neighbors": [arrays[f"knn_idx/{k}"] for k in range(2)],
        "expected": arrays,
    }


def run(model, batch, labels=None):
    names = ("masks", "points", "anchors", "neighbors")
    geometry = reference_geometry(model.config, *(batch[name] for name in names))
    return reference_forward(
        model,
        batch["pixel_values"],
        batch["input_ids"],
        geometry,
        [len(row) for row in batch["masks"]],
        attention_mask=batch["attention_mask"],
        labels=labels,
    )


@pytest.mark.parametrize("source", ["reference layout", "converted"])
def test_public_function_gives_the_logits_of_a_mixed_padded_batch(parity, converted, batch, source):
    folder = converted if source == "converted" else parity / "model/tiny_ferret"
    names = ("pixel_values", "input_ids", "masks", "points", "anchors", "neighbors", "attention_mask")
    logits = reference_logits(folder, **{name: batch[name] for name in names})
    np.testing.assert_allclose(logits.numpy(), batch["expected"]["logits"], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        # Three regions as before, but one in the row that mentions none.
        (
            lambda batch: {"masks": [batch["masks"][0][:1], batch["masks"][0][1:], batch["masks"][2]]},
            "region",
        ),
        (lambda batch: {"masks": [*batch["masks"], [batch["masks"][0][0]]], "points": None}, "rows"),
        (lambda batch: {"neighbors": None}, "together"),
    ],
)
def test_inputs_that_do_not_fit_together_are_refused(converted, batch, change, says):
    names = ("pixel_values", "input_ids", "masks", "points", "anchors", "neighbors", "attention_mask")
    changed = {name: batch[name] for name in names} | change(batch)
    with pytest.raises(InputError, match=says):
        reference_logits(converted, **changed)


def test_a_region_needs_a_picture_in_its_row(converted, batch):
    ids = batch["input_ids"].clone()
    ids[0][ids[0] == -200] = 5
    with pytest.raises(InputError, match="row 0 shows no picture"):
        reference_logits(converted, batch["pixel_values"], ids, batch["masks"])


def test_without_regions(parity, converted, read_npz):
    arrays, _ = read_npz(parity / "model/forward_noregion.npz")
    pixels, ids = torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["input_ids"])
    logits = reference_logits(converted, pixels, ids)
    np.testing.assert_allclose(logits.numpy(), arrays["logits"], atol=1e-4, rtol=0)


def test_features_and_embeddings(converted, batch):
    model = open_reference(converted)
    with torch.no_grad():
        encoded = model.model.encode_pictures(batch["pixel_values"])
    cells = encoded.maps[-1].flatten(2).transpose(1, 2).numpy()
    np.testing.assert_allclose(cells, batch["expected"]["vision_features"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(encoded.tokens.numpy(), batch["expected"]["projected"], atol=1e-4, rtol=0)


def test_loss_and_gradient_norms(parity, converted, batch):
    expected = json.loads((parity / "model/grads.json").read_text(encoding="utf-8"))
    model = open_reference(converted)
    model.model.vision_tower.requires_grad_(False)
    output = run(model, batch, batch["labels"])
    assert output.loss.item() == pytest.approx(expected["loss"], abs=1e-5)
    assert output.loss.item() == pytest.approx(float(batch["expected"]["loss"]), abs=1e-5)
    output.loss.backward()
    found = {
        reference_name(name): None if one.grad is None else float(one.grad.norm())
        for name, one in model.named_parameters()
    }
    assert set(found) == set(expected["grad_norms"])
    for name, norm in expected["grad_norms"].items():
        if norm is None:
            assert found[name] is None, name
        else:
            assert found[name] == pytest.approx(norm, rel=1e-3, abs=1e-6), name


def test_greedy_decoding_with_a_cache_is_decoding_without(converted, batch):
    """With regions in the prompt: what the cache holds is what a whole forward pass computes."""
    model = open_reference(converted)
    row, regions = batch["input_ids"][:1], len(batch["masks"][0])
    place = int((row[0] == -200).nonzero())
    marks = torch.full((1, model.config.picture_tokens), model.config.image_token_id)
    length = int(batch["attention_mask"][0].sum())
    prompt = torch.cat([row[:, :place], marks, row[:, place + 1 : length]], dim=1)
    inputs = {
        "pixel_values": batch["pixel_values"][:1],
        "region_points": torch.from_numpy(np.stack(batch["points"][:regions])),
        "region_anchors": [torch.from_numpy(one[:regions]) for one in batch["anchors"]],
        "region_neighbors": [torch.from_numpy(one[:regions]) for one in batch["neighbors"]],
        "region_picture": torch.zeros(regions, dtype=torch.long),
    }
    cached = model.generate(input_ids=prompt, **inputs, do_sample=False, max_new_tokens=12, min_new_tokens=12)
    ids = prompt
    with torch.no_grad():
        for _ in range(12):
            logits = model(input_ids=ids, **inputs).logits[:, -1]
            if ids.shape[1] == prompt.shape[1]:
                expected = batch["expected"]["logits"][0, prompt.shape[1] - 1]
                np.testing.assert_allclose(logits[0].numpy(), expected, atol=1e-4, rtol=0)
            logits[:, model.generation_config.eos_token_id] = -torch.inf
            ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
    assert cached.tolist() in (ids.tolist(), ids[:, prompt.shape[1] :].tolist())


def test_names_and_shapes(parity, converted):
    from openferret.convert.checkpoint import find_weights, list_tensors
    from openferret.convert.names import is_buffer, our_name

    expected = json.loads((parity / "model/state_dict_shapes.json").read_text(encoding="utf-8"))
    own = {name: tuple(shape) for name, shape in expected.items() if not is_buffer(name)}
    found = {name: one.shape for name, one in list_tensors(find_weights(converted)).items()}
    assert {our_name(name) for name in own} == set(found)
    assert all(np.prod(found[our_name(name)]) == np.prod(shape) for name, shape in own.items())
    assert {reference_name(our_name(name)) for name in own} == set(own)
