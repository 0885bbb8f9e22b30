"""What all families share: loading, greedy decoding, one reply for each question."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from openferret.answer import Answer, LocatedBox, Mention
from openferret.coordinates import denormalize_box, normalize_box
from openferret.errors import InputError
from openferret.eval.metrics.boxes import BoxNumbers, hull
from openferret.eval.models import ModelCard, folder_digest
from openferret.eval.questions import Question, Reply, Spot, digest
from openferret.regions import region_bounds

if TYPE_CHECKING:
    from PIL import Image

# What torch and transformers raise on a device that is not there, and on files that cannot be used.
_UNUSABLE = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, ImportError, AssertionError),
    *(SafetensorError, StrictDataclassError),
)


class Peer(ABC):
    """A model of transformers as a candidate; a subclass knows one family.

    Args:
        folder: as `save_pretrained` writes it, with weights in safetensors.
        device: "cpu", "cuda", ...
        max_new_tokens: an answer ends after so many.

    Raises:
        InputError: a device that is not there, or files that transformers cannot open.
    """

    dialect: ClassVar[str]
    prompts: ClassVar[Mapping[str, str]]

    def __init__(self, folder: Path, device: str = "cpu", max_new_tokens: int = 256) -> None:
        self._folder = folder
        self._longest = max_new_tokens
        try:
            self._device = torch.zeros(1, device=device).device
            self._dtype = torch.float32 if self._device.type == "cpu" else torch.bfloat16
            self.open(folder)
        except _UNUSABLE as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(f"{folder} cannot be opened by transformers: {reason}") from error

    @abstractmethod
    def open(self, folder: Path) -> None:
        """Loads the model and whatever prepares its inputs."""

    @abstractmethod
    def ground(self, image: Image.Image, question: Question) -> Reply:
        """A mention for each phrase."""

    @abstractmethod
    def ask(self, image: Image.Image, question: Question) -> Reply:
        """An answer to a question in words, which may point."""

    @abstractmethod
    def describe(self, image: Image.Image, question: Question) -> Reply:
        """A caption with boxes."""

    def card(self) -> ModelCard:
        """The folder's name and digest."""
        settings = (
            ("dialect", self.dialect),
            ("dtype", str(self._dtype).removeprefix("torch.")),
            ("decoding", f"greedy, {self._longest} tokens at most"),
            ("words", digest(dict(self.prompts))[:12]),
        )
        kind = type(self).__name__.lower()
        return ModelCard(self._folder.resolve().name, kind, folder_digest(self._folder), settings)

    def look(self, image: Image.Image) -> Image.Image:
        """The picture itself: a question is asked with it, each time anew."""
        return image

    def answer(self, view: Image.Image, questions: Sequence[Question]) -> list[Reply]:
        """Each question is asked alone."""
        replies = []
        for question in questions:
            verb = {"ground": self.ground, "ask": self.ask, "describe": self.describe}[question.verb]
            try:
                replies.append(verb(view, question))
            except InputError as error:
                replies.append(Reply(None, error=str(error)))
        return replies

    def load_model(self, folder: Path) -> Any:
        """The folder's model: safetensors only, no code of the folder, nothing fetched."""
        from transformers import AutoModelForImageTextToText

        model, said = AutoModelForImageTextToText.from_pretrained(
            folder,
            dtype=self._dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
        if said["missing_keys"] or said["mismatched_keys"]:
            raise ValueError("some of its weights are missing or of another size")
        return model.eval().to(self._device)

    @torch.inference_mode()
    def generate(self, model: Any, inputs: Mapping[str, Any]) -> list[int]:
        """Greedy decoding of one row, tensors moved to the device: ids `[sequence]` as the model gives them."""
        moved = {
            name: value.to(self._device, self._dtype if value.is_floating_point() else None)
            for name, value in inputs.items()
        }
        ids: list[int] = model.generate(**moved, max_new_tokens=self._longest, do_sample=False, num_beams=1)[
            0
        ].tolist()
        return ids


def without_tags(words: str) -> str:
    """Words of a question without the marks that these models' special tokens are made of.

    >>> without_tags("a <OD> dog")
    'a OD dog'
    """
    return " ".join(words.replace("<", " ").replace(">", " ").split())


def unit_bounds(spot: Spot, width: int, height: int) -> BoxNumbers:
    """The bounds in 0..1 of what is pointed at: these models are told boxes only."""
    return normalize_box(region_bounds(spot.region(width, height), width, height), width, height)


def found_boxes(
    phrases: Sequence[str], boxes: Sequence[Sequence[BoxNumbers]], size: tuple[int, int], merge: bool
) -> Answer:
    """An answer that names each phrase with its boxes in 0..1, or the hull of them if `merge`.

    >>> found_boxes(["a dog", "a cat"], [[(0, 0, 1, 1)], []], (10, 10), False).text
    'a dog; a cat: not in the picture'
    """
    text, mentions = "", []
    for phrase, several in zip(phrases, boxes, strict=True):
        text += "; " if text else ""
        kept = [hull(several)] if merge and several else several
        located = tuple(LocatedBox.of(denormalize_box(one, *size), *size) for one in kept)
        mentions.append(Mention(phrase, (len(text), len(text) + len(phrase)), located))
        text += phrase if several else f"{phrase}: not in the picture"
    return Answer(text, tuple(mentions), *size)
