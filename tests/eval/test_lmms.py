"""Against stand-ins of lmms-eval's base class and registry: the package cannot be installed beside our torch."""

import sys
import types
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from openferret.answer import parse_answer
from openferret.errors import InputError


class StandIn(ABC):
    """What lmms_eval.api.model.lmms of 0.7 asks of a model."""

    is_simple = True

    def __init__(self):
        self.task_dict = {}

    @abstractmethod
    def loglikelihood(self, requests): ...

    @abstractmethod
    def generate_until(self, requests): ...

    @abstractmethod
    def generate_until_multi_round(self, requests): ...


@dataclass(frozen=True)
class Manifest:
    model_id: str
    simple_class_path: str | None = None


class FakeFerret:
    encoded = 0

    @classmethod
    def load(cls, *_, **__):
        return cls()

    def encode(self, picture):
        FakeFerret.encoded += 1
        return self

    def ask(self, question, max_new_tokens):
        return parse_answer(f"{question} [1, 2, 3, 4]", 1000, 1000)


@pytest.fixture
def model(monkeypatch):
    for name, content in (
        ("lmms_eval", {}),
        ("lmms_eval.api", {}),
        ("lmms_eval.api.model", {"lmms": StandIn}),
        ("lmms_eval.models", {}),
        ("lmms_eval.models.registry_v2", {"ModelManifest": Manifest}),
        ("openferret.predictor", {"Ferret": FakeFerret}),
    ):
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "openferret.eval.lmms_model", raising=False)
    FakeFerret.encoded = 0
    from openferret.eval.lmms_plugin import manifest

    module, _, name = manifest().simple_class_path.rpartition(".")
    __import__(module)
    made = getattr(sys.modules[module], name)(
        pretrained="kit", device="cpu", batch_size=1, max_batch_size=None
    )
    made.task_dict = {"refcoco": {"val": [{"picture": "a"}, {"picture": None}]}}
    yield made
    sys.modules.pop("openferret.eval.lmms_model", None)


def request(context, document):
    visuals = lambda doc: [doc["picture"]] if doc["picture"] else []  # noqa: E731
    return SimpleNamespace(args=(context, {"max_new_tokens": 16}, visuals, document, "refcoco", "val"))


def test_requests_are_answered_in_order_and_a_picture_is_encoded_once(model):
    assert model.generate_until([request("a dog", 0), request("a cat", 0)]) == [
        "a dog [1, 2, 3, 4]",
        "a cat [1, 2, 3, 4]",
    ]
    assert FakeFerret.encoded == 1


def test_what_cannot_be_done_is_said(model):
    with pytest.raises(InputError, match="no picture"):
        model.generate_until([request("a dog", 1)])
    with pytest.raises(InputError, match="generates"):
        model.loglikelihood([])
    with pytest.raises(InputError, match="single round"):
        model.generate_until_multi_round([])
