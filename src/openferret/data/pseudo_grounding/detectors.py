"""Open-vocabulary detectors behind one interface: a picture and phrases in, scored boxes out.

Grounding DINO (arXiv 2303.05499) and OWLv2 (arXiv 2306.09683) come from transformers, whose names or folders are
given; nothing of them is imported before they are made. GRIT's boxes came from GLIPv2, which was not released.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from openferret.errors import InputError, WeightsError
from openferret.regions import Box

if TYPE_CHECKING:
    from PIL import Image

    from openferret.predictor import Ferret


@dataclass(frozen=True)
class Located:
    """A box in pixels and how sure the detector is of it, 0..1."""

    box: Box
    score: float


class Detector(Protocol):
    """Finds phrases on a picture."""

    @property
    def name(self) -> str:
        """For the samples' provenance."""

    def locate(self, image: Image.Image, phrases: Sequence[str]) -> Sequence[Sequence[Located]]:
        """For each phrase its boxes, in any order, of any score.

        Args:
            image: upright, RGB.
            phrases: without articles, lower case.
        """


class GroundingDino:
    """Grounding DINO of transformers.

    Args:
        model: its name or folder, as "IDEA-Research/grounding-dino-tiny".
        device: as "cpu" or "cuda".
        least: score below which boxes are not even listed.
        batch: phrases that go through the model at once; each takes the picture with it.

    Raises:
        WeightsError: the model cannot be opened.
    """

    def __init__(self, model: str, device: str = "cpu", least: float = 0.1, batch: int = 4) -> None:
        self._processor, self._model = _opened(model, device)
        self._device, self._least, self._batch = device, least, batch
        self.name = model

    def locate(self, image: Image.Image, phrases: Sequence[str]) -> list[list[Located]]:
        """Each phrase is asked by itself: in one sentence their words would share boxes."""
        import torch

        found: list[list[Located]] = []
        for start in range(0, len(phrases), self._batch):
            asked = [f"{phrase}." for phrase in phrases[start : start + self._batch]]
            inputs = self._processor(
                images=[image] * len(asked),
                text=asked,
                padding=True,
                truncation=True,
                max_length=self._model.config.max_text_len,
                return_tensors="pt",
            ).to(self._device)
            with torch.inference_mode():
                outputs = self._model(**inputs)
            results = self._processor.post_process_grounded_object_detection(
                outputs,
                inputs["input_ids"],
                threshold=self._least,
                text_threshold=self._least,
                target_sizes=[(image.height, image.width)] * len(asked),
            )
            found += [[one for one, _ in _located(result)] for result in results]
        return found


class Owl:
    """OWLv2 (or OWL-ViT) of transformers.

    Args:
        model: its name or folder, as "google/owlv2-base-patch16-ensemble".
        device: as "cpu" or "cuda".
        least: score below which boxes are not even listed.

    Raises:
        WeightsError: the model cannot be opened.
    """

    def __init__(self, model: str, device: str = "cpu", least: float = 0.05) -> None:
        self._processor, self._model = _opened(model, device)
        self._device, self._least = device, least
        self.name = model

    def locate(self, image: Image.Image, phrases: Sequence[str]) -> list[list[Located]]:
        """All phrases in one pass: their boxes are told apart by the query they answer."""
        import torch

        queries = [f"a photo of {phrase}" for phrase in phrases]
        # Sixteen tokens are all that it reads of a phrase.
        inputs = self._processor(images=image, text=[queries], truncation=True, return_tensors="pt")
        with torch.inference_mode():
            outputs = self._model(**inputs.to(self._device))
        result = self._processor.post_process_grounded_object_detection(
            outputs, threshold=self._least, target_sizes=[(image.height, image.width)]
        )[0]
        found = [(one, int(result["labels"][place])) for one, place in _located(result)]
        return [[one for one, label in found if label == number] for number in range(len(phrases))]


@dataclass(frozen=True)
class FerretDetector:
    """Our own `ground`, of Kit or of any model that writes boxes; boxes without a score count as certain."""

    ferret: Ferret

    @classmethod
    def load(cls, model: str = "kit", device: str = "cpu") -> FerretDetector:
        """Opens a model by its name or folder.

        Raises:
            WeightsError: it cannot be opened.
        """
        from openferret.predictor import Ferret

        return cls(Ferret.load(model, device=device))

    @property
    def name(self) -> str:
        """Of the model."""
        return self.ferret.name

    def locate(self, image: Image.Image, phrases: Sequence[str]) -> list[list[Located]]:
        """All phrases in one batch over a picture that is read once."""
        mentions = self.ferret.encode(image).ground(list(phrases)).mentions
        return [
            [Located(Box(*box.pixels), 1.0 if box.score is None else box.score) for box in one.boxes]
            for one in mentions
        ]


def _opened(model: str, device: str) -> tuple[Any, Any]:
    import transformers

    try:
        processor = transformers.AutoProcessor.from_pretrained(model)
        kind = transformers.AutoModelForZeroShotObjectDetection
        detector = kind.from_pretrained(model).to(device).eval()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines()
        raise WeightsError(
            f"the detector {model} cannot be opened: {reason[0] if reason else type(error).__name__}; "
            "give the name or the folder of a zero-shot object detector of transformers"
        ) from None
    return processor, detector


def _located(result: Any) -> list[tuple[Located, int]]:
    """Boxes and their places in the result; what is not a number is left out."""
    found = []
    for place, (sides, score) in enumerate(
        zip(result["boxes"].tolist(), result["scores"].tolist(), strict=True)
    ):
        try:
            found.append((Located(Box(*sides), float(score)), place))
        except InputError:
            continue
    return found
