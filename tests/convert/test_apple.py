"""Deltas and base -> a model folder, whole or not at all."""

import errno
import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from openferret.convert import Sources, convert_apple, writing
from openferret.convert.checkpoint import find_weights, list_tensors
from openferret.convert.names import is_buffer, our_name, to_our_shape
from openferret.convert.writing import write_safetensors
from openferret.errors import InputError, WeightsError

SMALL_SHARDS = 60_000


def sources(release):
    return Sources(release.delta, release.base, release.vision)


def state(folder):
    return {name: one.read() for name, one in list_tensors(find_weights(folder)).items()}


def assert_is_release(folder, release):
    found = state(folder)
    expected = {our_name(name): to_our_shape(our_name(name), one) for name, one in release.merged.items()}
    expected |= {f"model.vision_tower.{k.removeprefix('vision_model.')}": v for k, v in release.tower.items()}
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_deltas_are_added_in_many_shards_and_the_model_answers(original, tmp_path):
    out = convert_apple(sources(original), tmp_path / "out", shard_bytes=SMALL_SHARDS)
    assert len(list(out.glob("model-*.safetensors"))) > 3
    assert not list(tmp_path.glob("*.part"))
    assert_is_release(out, original)

    import numpy as np

    from openferret import Box, Ferret, Point, Scribble

    ferret = Ferret.load(out)
    assert ferret.loaded.model.config.transposed_sampling
    assert ferret.loaded.processor.reference_regions
    scene = ferret.encode(np.zeros((60, 80, 3), np.uint8))
    for region in (Point(3, 4), Box(1, 2, 30, 40), Scribble([(1, 2), (50, 30)])):
        assert isinstance(scene.refer(region, max_new_tokens=3).text, str)


def test_an_interrupted_run_goes_on_where_it_stopped(original, tmp_path, monkeypatch):
    out, written = tmp_path / "out", []

    def until_full(path, tensors, advance=lambda _: None):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path.name)
        write_safetensors(path, tensors, advance)

    with monkeypatch.context() as patch:
        patch.setattr(writing, "write_safetensors", until_full)
        with pytest.raises(WeightsError, match=r"the disk is full; .*run the same command again"):
            convert_apple(sources(original), out, shard_bytes=SMALL_SHARDS)
    assert not out.exists()
    kept = {file.name: file.stat().st_mtime_ns for file in Path(f"{out}.part").glob("*.safetensors")}
    assert len(kept) == 2
    convert_apple(sources(original), out, shard_bytes=SMALL_SHARDS)
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept
    assert_is_release(out, original)


def test_a_torn_file_is_never_under_its_final_name(tmp_path):
    def fails():
        raise OSError(errno.ENOSPC, "No space left on device")

    bad = writing.PlannedTensor("b", (1,), torch.float32, fails)
    good = writing.PlannedTensor("a", (1,), torch.float32, lambda: torch.ones(1))
    with pytest.raises(OSError, match="No space"):
        write_safetensors(tmp_path / "x.safetensors", [good, bad])
    assert not list(tmp_path.iterdir())


def test_what_is_written_is_what_safetensors_reads(tmp_path):
    tensors = {
        "a": torch.randn(3, 5),
        "b": torch.randn(2, 2).half().T,
        "c": torch.tensor(7),
        "d": torch.empty(0, 3),
        "e": torch.randn(3).bfloat16(),
    }
    planned = [
        writing.PlannedTensor(name, tuple(one.shape), one.dtype, lambda one=one: one)
        for name, one in tensors.items()
    ]
    write_safetensors(tmp_path / "x.safetensors", planned)
    found = load_file(tmp_path / "x.safetensors")
    assert all(
        torch.equal(found[name], one) and found[name].dtype == one.dtype for name, one in tensors.items()
    )


def test_done_twice_is_done_once_and_another_folder_is_not_touched(original, tmp_path):
    out = convert_apple(sources(original), tmp_path / "out")
    before = (out / "model.safetensors").stat().st_mtime_ns
    assert convert_apple(sources(original), out) == out
    assert (out / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="exists already"):
        convert_apple(sources(original), out, shard_bytes=SMALL_SHARDS)


def test_too_little_disk_is_said_before_anything_is_written(original, tmp_path, monkeypatch):
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(WeightsError, match=r"GB will be written, but the disk of .* has 0.0 GB free"):
        convert_apple(sources(original), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_shard_is_named(release, tmp_path):
    (release.delta / "pytorch_model-00002-of-00003.bin").unlink()
    with pytest.raises(WeightsError, match=r"1 of 3 shards are missing .*pytorch_model-00002-of-00003.bin"):
        convert_apple(sources(release), tmp_path / "out")
    # Also without an index.
    (release.base / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"model-00001-of-00002.safetensors"):
        find_weights(release.base)


@pytest.mark.parametrize("folder", ["delta", "vision"])
def test_a_truncated_file_is_named(release, tmp_path, folder):
    file = find_weights(getattr(release, folder))[0]
    file.write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(WeightsError, match=rf"{file.name} cannot be read, it may be truncated"):
        convert_apple(sources(release), tmp_path / "out")


def test_a_pickle_with_code_is_refused(release, tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "owned",))

    torch.save({"model.norm.weight": Evil()}, release.delta / "pytorch_model-00001-of-00003.bin")
    with pytest.raises(WeightsError, match=r"pytorch_model-00001-of-00003.bin cannot be read"):
        convert_apple(sources(release), tmp_path / "out")
    assert not (tmp_path / "owned").exists()


def test_an_index_cannot_point_outside_its_folder(release, tmp_path):
    index = release.delta / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../base/x.bin"}}), encoding="utf-8")
    with pytest.raises(WeightsError, match="no usable weight_map"):
        convert_apple(sources(release), tmp_path / "out")


def test_a_base_of_another_shape_is_named(release, change, tmp_path):
    name = "model.layers.3.mlp.up_proj.weight"

    def edit(tensors):
        if name in tensors:
            tensors[name] = torch.zeros(96, 32).half()
        return name in tensors

    change(release.base, edit)
    with pytest.raises(
        WeightsError, match=rf"is not the base of .*{name} is \[96, 32\] there, but \[64, 32\]"
    ):
        convert_apple(sources(release), tmp_path / "out")


def test_a_base_without_a_tensor_is_named(release, change, tmp_path):
    name = "model.layers.31.input_layernorm.weight"
    change(release.base, lambda tensors: tensors.pop(name, None) is not None)
    with pytest.raises(WeightsError, match=rf"is not the base of .*it has no {name}"):
        convert_apple(sources(release), tmp_path / "out")


def test_missing_and_unexpected_tensors_are_listed(release, change, tmp_path):
    def edit(tensors):
        if "model.norm.weight" in tensors:  # of one file
            tensors["model.surprise.weight"] = torch.zeros(1)
        tensors.pop("model.region_geo_sampler.flatten_projector.bias", None)
        return True

    change(release.delta, edit)
    merged = Sources(release.delta, vision=release.vision)
    with pytest.raises(WeightsError, match="holds differences to a base model"):
        convert_apple(merged, tmp_path / "out")
    surprise = {"model.surprise.weight": torch.zeros(1)}
    change(
        release.base, lambda tensors: "model.norm.weight" in tensors and (tensors.update(surprise) or True)
    )
    with pytest.raises(
        WeightsError, match=r"missing: model.sampler.flatten.bias; unexpected: model.surprise"
    ):
        convert_apple(sources(release), tmp_path / "out")


def test_whole_weights_are_not_added_to_a_base(release, change, tmp_path):
    change(release.delta, lambda tensors: tensors.update({k: release.merged[k] for k in tensors}) or True)
    with pytest.raises(WeightsError, match="leave out --base"):
        convert_apple(sources(release), tmp_path / "out")
    out = convert_apple(Sources(release.delta, vision=release.vision), tmp_path / "out")
    assert_is_release(out, release)


def test_checksums_of_the_base(release, tmp_path):
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}" for file in find_weights(release.base)
    ]
    sums = tmp_path / "SHA256SUMS"
    sums.write_text("\n".join(lines), encoding="utf-8")
    convert_apple(sources(release), tmp_path / "right", base_checksums=sums)
    sums.write_text("\n".join([lines[0], "0" * 64 + lines[1][64:]]), encoding="utf-8")
    with pytest.raises(
        WeightsError, match=r"model-00002-of-00002.safetensors is damaged or of another model"
    ):
        convert_apple(sources(release), tmp_path / "wrong", base_checksums=sums)
    sums.write_text("nothing", encoding="utf-8")
    with pytest.raises(WeightsError, match="names none of the weight files"):
        convert_apple(sources(release), tmp_path / "wrong", base_checksums=sums)


def test_a_file_of_a_hub_cache_is_checked_by_its_name(release, tmp_path):
    file = find_weights(release.base)[0]
    blob = file.rename(tmp_path / ("0" * 64))
    file.symlink_to(blob)
    with pytest.raises(WeightsError, match="expected 0000"):
        convert_apple(sources(release), tmp_path / "out")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("mm_use_im_start_end", True, "mm_use_im_start_end is True, expected one of False"),
        ("mm_projector_type", "mlp2x_gelu", "expected one of 'linear'"),
        ("num_hidden_layers", 10**9, "expected int between 1 and 1000"),
        ("hidden_size", "4096", "hidden_size is '4096'"),
        ("model_type", "ferret_gemma", "expected one of 'ferret'"),
        ("sampler_pooler_mode", "median", "expected one of 'max', 'mean'"),
        ("mm_hidden_size", 99, "vision tower of 99 channels, but this one has 16"),
    ],
)
def test_configuration_keys_are_checked(release, tmp_path, key, value, said):
    path = release.delta / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {key: value}
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(WeightsError, match=said):
        convert_apple(sources(release), tmp_path / "out")


def test_a_projector_and_a_sampler_of_their_own(release, change, tmp_path):
    """As the trainer saves a projector alone, with anything before the name."""
    projector = {"model.mm_projector.weight": torch.ones(32, 16), "model.mm_projector.bias": torch.ones(32)}
    torch.save(projector, tmp_path / "mm_projector.bin")
    sampler = {
        f"base_model.{name}": one + 1 for name, one in release.merged.items() if "region_geo_sampler" in name
    }
    save_file(sampler, tmp_path / "sampler.safetensors")
    change(release.delta, lambda tensors: [tensors.pop(name) for name in [*tensors] if name in projector])
    given = Sources(
        release.delta,
        release.base,
        release.vision,
        tmp_path / "mm_projector.bin",
        tmp_path / "sampler.safetensors",
    )
    found = state(convert_apple(given, tmp_path / "out"))
    assert torch.equal(found["model.projector.weight"], torch.ones(32, 16))
    bias = release.merged["model.region_geo_sampler.dim_projector.bias"]
    assert torch.equal(found["model.sampler.output.bias"], bias + 1)


def test_a_training_output(release, change, tmp_path):
    """`final-checkpoint` without deltas, with `vision_tower/` inside."""
    folder = tmp_path / "output/final-checkpoint"
    folder.parent.mkdir()
    release.delta.rename(folder)
    change(folder, lambda tensors: tensors.update({k: release.merged[k] for k in tensors}) or True)
    release.vision.rename(folder / "vision_tower")
    assert_is_release(convert_apple(Sources(folder.parent), tmp_path / "out"), release)


def test_a_release_without_a_vision_tower_says_where_to_get_one(release, tmp_path):
    with pytest.raises(WeightsError, match=r"openai/clip-vit-large-patch14-336 .*--vision"):
        convert_apple(Sources(release.delta, release.base), tmp_path / "out")


def test_a_release_without_a_tokenizer_asks_for_it(release, tmp_path):
    tokenizer = tmp_path / "words"
    tokenizer.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (release.delta / name).rename(tokenizer / name)
    with pytest.raises(WeightsError, match=r"no tokenizer .*--tokenizer"):
        convert_apple(sources(release), tmp_path / "out")
    convert_apple(sources(release), tmp_path / "out", tokenizer=tokenizer)


def test_buffers_are_told_from_weights(original):
    names = list_tensors(find_weights(original.base))
    assert sum(map(is_buffer, names)) == 32


def test_files_of_before_pytorch_1_6(release, tmp_path):
    """They cannot be memory-mapped."""
    for file in find_weights(release.delta):
        tensors = torch.load(file, weights_only=True)
        torch.save(tensors, file, _use_new_zipfile_serialization=False)
    assert_is_release(convert_apple(sources(release), tmp_path / "out"), release)
