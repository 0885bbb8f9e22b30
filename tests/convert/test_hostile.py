"""Checkpoints made to hurt: each is refused before anything is written, in a line that says what is wrong where."""

import json
import signal
import struct
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from openferret.convert import Sources, convert_apple
from openferret.convert.checkpoint import find_weights, list_tensors
from openferret.errors import WeightsError

FIRST = "pytorch_model-00001-of-00003.bin"
INVERSE = "model.layers.0.self_attn.rotary_emb.inv_freq"


def sources(release):
    return Sources(release.delta, release.base, release.vision)


def refused(release, tmp_path, said):
    with pytest.raises(WeightsError, match=said):
        convert_apple(sources(release), tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


def put_name(file, name, tensor):
    torch.save(torch.load(file, weights_only=True) | {name: tensor}, file)


def rewrite_header(file, edit):
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    edit(header)
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(1).expand(1 << 40),  # four terabytes in four bytes
        lambda: torch.sparse_coo_tensor(torch.zeros(1, 1, dtype=torch.long), torch.ones(1), (1 << 40,)),
        lambda: torch.empty(8, device="meta"),
        lambda: torch.zeros(8, dtype=torch.complex64),
        lambda: torch._empty_affine_quantized([8], scale=0.1, zero_point=0, dtype=torch.qint8),
    ],
    ids=["expanded", "sparse", "meta", "complex", "quantised"],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of sparse and quantised tensors
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", [INVERSE, "model.norm.weight", "lm_head.weight"])
def test_tensors_that_are_not_what_their_file_holds(release, tmp_path, make, name):
    places = json.loads((release.delta / "pytorch_model.bin.index.json").read_text())["weight_map"]
    put_name(release.delta / places.get(name, FIRST), name, make())
    refused(release, tmp_path, name.replace(".", r"\.") + " is no plain tensor")


def test_a_parameter_that_wants_gradients_is_a_tensor(release, tmp_path):
    for file in find_weights(release.delta):
        tensors = torch.load(file, weights_only=True)
        torch.save({name: torch.nn.Parameter(one) for name, one in tensors.items()}, file)
    out = convert_apple(sources(release), tmp_path / "out")
    found = list_tensors(find_weights(out))["lm_head.weight"].read()
    assert torch.equal(found, release.merged["lm_head.weight"])


def test_a_tensor_in_two_files_is_named(release, tmp_path):
    put_name(release.delta / FIRST, "lm_head.weight", torch.zeros(301, 32).half())
    refused(
        release, tmp_path, r"lm_head\.weight is both in .*00001-of-00003\.bin and in .*00003-of-00003\.bin"
    )


@pytest.mark.parametrize(
    "edit",
    [
        lambda entry: entry.update(shape=[1 << 40, 1 << 40]),
        lambda entry: entry.update(shape=[-1, 16]),
        lambda entry: entry.update(data_offsets=[0, 1 << 60]),
        lambda entry: entry.update(data_offsets=[64, 0]),
        lambda entry: entry.update(dtype="F1024"),
        lambda entry: entry.pop("shape"),
    ],
    ids=["huge", "negative", "beyond the end", "backwards", "unknown type", "no shape"],
)
def test_safetensors_headers_that_lie(release, tmp_path, edit):
    file = release.vision / "model.safetensors"
    rewrite_header(file, lambda header: edit(next(v for k, v in header.items() if k != "__metadata__")))
    refused(release, tmp_path, r"model\.safetensors cannot be read")


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 8, struct.pack("<Q", 1 << 62) + b"{}", b"\xff" * 4096, struct.pack("<Q", 2) + b"[]"],
)
def test_files_that_are_no_safetensors(release, tmp_path, content):
    (release.vision / "model.safetensors").write_bytes(content)
    refused(release, tmp_path, r"model\.safetensors cannot be read")


@pytest.mark.parametrize(
    "place", ["../base/x.bin", "/etc/passwd", "..", ".", "", "sub/x.bin", 7, None, ["x"], {"a": 1}]
)
def test_an_index_that_points_elsewhere(release, tmp_path, place):
    index = release.delta / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"lm_head.weight": place}}), encoding="utf-8")
    refused(release, tmp_path, "no usable weight_map|shards are missing")


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{" * 100_000, "[" * 100_000, '{"weight_map": []}', "\xff"]
)
def test_an_index_that_is_none(release, tmp_path, text):
    (release.delta / "pytorch_model.bin.index.json").write_text(text, encoding="latin-1")
    refused(release, tmp_path, r"index\.json (cannot be read|should hold|has no usable)")


@pytest.mark.parametrize(
    ("where", "values"),
    [
        ("delta", {"hidden_size": True}),
        ("delta", {"hidden_size": -32}),
        ("delta", {"hidden_size": 33}),
        ("delta", {"num_attention_heads": 3}),
        ("delta", {"num_attention_heads": 0}),
        ("delta", {"num_key_value_heads": 5}),
        ("delta", {"rms_norm_eps": float("nan")}),
        ("delta", {"num_hidden_layers": 1e400}),
        ("delta", {"mm_vision_select_layer": 500}),
        ("delta", {"pad_token_id": 10**6}),
        ("delta", {"im_region_fea_token": 5}),
        ("vision", {"patch_size": 100}),
        ("vision", {"image_size": 1_000_000, "patch_size": 1}),
        ("vision", {"num_attention_heads": 5}),
        ("vision", {"hidden_act": "__import__('os').system('true')"}),
        ("vision", {"vision_config": {"hidden_size": 16}}),
    ],
    ids=str,
)
def test_configurations_that_cannot_be(release, tmp_path, where, values):
    path = getattr(release, where) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")
    refused(
        release,
        tmp_path,
        r"config\.json|its configuration asks for|not those of a Ferret|cannot be|does not fit",
    )


def test_a_killed_run_leaves_nothing_half_done_and_is_taken_up(original, tmp_path):
    """SIGKILL, so that nothing can be tidied up."""
    out = tmp_path / "out"
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from openferret.convert import Sources, convert_apple, writing\n"
        "whole = writing.write_safetensors\n"
        "def slowly(path, tensors, advance=lambda _: None):\n"
        "    whole(path, tensors, lambda count: (time.sleep(0.02), advance(count)))\n"
        "writing.write_safetensors = slowly\n"
        "delta, base, vision, out = map(Path, sys.argv[1:])\n"
        "convert_apple(Sources(delta, base, vision), out, shard_bytes=60_000)\n"
    )
    folders = (original.delta, original.base, original.vision, out)
    stage = tmp_path / "out.part"
    running = subprocess.Popen([sys.executable, "-c", code, *map(str, folders)])
    limit = time.monotonic() + 120
    while len(list(stage.glob("model-*.safetensors"))) < 3 or not list(stage.glob("*.tmp")):
        assert running.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not out.exists()
    whole = {file: load_file(file) for file in stage.glob("model-*.safetensors")}  # each can be read
    assert len(whole) >= 3
    times = {file.name: file.stat().st_mtime_ns for file in whole}
    convert_apple(sources(original), out, shard_bytes=60_000)
    assert {name: (out / name).stat().st_mtime_ns for name in times} == times
    assert not list(out.rglob("*.tmp"))
    assert not stage.exists()
    found = list_tensors(find_weights(out))["lm_head.weight"].read()
    assert torch.equal(found, original.merged["lm_head.weight"])


def test_another_file_in_the_place_of_weights(release, tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "alone.safetensors")
    given = Sources(release.delta, release.base, release.vision, projector=tmp_path / "alone.safetensors")
    with pytest.raises(WeightsError, match="holds no tensor of mm_projector"):
        convert_apple(given, tmp_path / "out")
