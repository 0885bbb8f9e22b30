"""This package's models for lmms-eval: `lmms-eval --model openferret --model_args pretrained=kit ...`.

Its tasks ask in their own words and read boxes in their own ways: figures that it prints are those of its
scorers, not of ours. Boxes are written as the paper writes them.
"""

from __future__ import annotations

from typing import Any

from lmms_eval.api.model import lmms

from openferret.answer import format_answer
from openferret.errors import InputError


class OpenFerret(lmms):
    """A model that answers about the first picture of each request.

    Args:
        pretrained: "kit" or a model folder.
        device: "cpu", "cuda", ...
        seed: of the sampled points.
        batch_size: taken and not used: requests are answered one by one.
        further: whatever else lmms-eval hands over; not used.
    """

    is_simple = True

    def __init__(
        self, pretrained: str = "kit", device: str = "cpu", seed: int = 0, batch_size: int = 1, **further: Any
    ) -> None:
        super().__init__()
        from openferret.predictor import Ferret

        self._ferret = Ferret.load(pretrained, device=device, seed=int(seed))

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Words with boxes for each request, in order; pictures of the same document are encoded once."""
        texts, last, scene = [], None, None
        for request in requests:
            context, settings, doc_to_visual, document, task, split = request.args
            if scene is None or last != (task, split, document):
                pictures = doc_to_visual(self.task_dict[task][split][document])
                if not pictures:
                    raise InputError(f"document {document} of {task} has no picture to ask about")
                scene, last = self._ferret.encode(pictures[0]), (task, split, document)
            longest = int(settings.get("max_new_tokens", 96))
            texts.append(format_answer(scene.ask(context, max_new_tokens=longest)))
        return texts

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Not there: InputError."""
        raise InputError("openferret answers in words; choose a task of lmms-eval that generates")

    def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
        """Not there: InputError."""
        raise InputError("openferret answers one question at a time here; choose a task of a single round")
