from __future__ import annotations

import types

import pytest
import torch

from openferret.train.processes import precision
from openferret.train.processes.precision import computes_in_bfloat16, in_bfloat16


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx2": True, "avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({}, False),
    ],
)
def test_a_processor_is_asked_what_it_computes_in(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert computes_in_bfloat16(torch.device("cpu")) is expected


def test_devices_that_nothing_is_known_of_compute_in_float32():
    assert not computes_in_bfloat16(torch.device("mps"))


@pytest.mark.parametrize("computes", [True, False])
def test_auto_follows_the_device_and_nothing_else_does(monkeypatch, computes):
    monkeypatch.setattr(precision, "computes_in_bfloat16", lambda _: computes)
    told = {
        name: in_bfloat16(types.SimpleNamespace(precision=name), torch.device("cpu"))
        for name in ("auto", "fp32", "bf16")
    }
    assert told == {"auto": computes, "fp32": False, "bf16": True}


@pytest.mark.parametrize("there", [True, False])
def test_an_older_torch_is_asked_in_its_own_way(monkeypatch, there):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: there)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert computes_in_bfloat16(torch.device("cpu")) is there
