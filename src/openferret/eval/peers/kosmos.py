"""Kosmos-2 (arXiv 2306.14824): phrases and patch tokens, in questions and in answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from openferret import prompts as ours
from openferret.eval.dialects import box_to_cells, read_kosmos
from openferret.eval.metrics.boxes import BoxNumbers
from openferret.eval.peers.base import Peer, found_boxes, unit_bounds, without_tags
from openferret.eval.questions import Question, Reply

if TYPE_CHECKING:
    from PIL import Image

_REFER = ours.REFER.format(region="[0]")


class Kosmos(Peer):
    """Kosmos-2, asked in the forms of its paper: a phrase to ground, a box to name, a question, a caption."""

    dialect = "kosmos"
    prompts: ClassVar[dict[str, str]] = {
        "ground": "<grounding><phrase> {phrase}</phrase>",
        "refer": "<grounding><phrase> It</phrase><object>{cells}</object> is",
        "ask": "<grounding> Question: {text} Answer:",
        "region": "<phrase> region</phrase><object>{cells}</object>",
        "describe": "<grounding> An image of",
    }

    def open(self, folder: Path) -> None:
        """Model and processor."""
        from transformers import AutoProcessor

        self._processor: Any = AutoProcessor.from_pretrained(folder, local_files_only=True)
        self._model = self.load_model(folder)

    def ground(self, image: Image.Image, question: Question) -> Reply:
        """One request for each phrase: what it writes next are the phrase's boxes."""
        boxes: list[list[BoxNumbers]] = []
        raws = []
        for phrase in question.phrases:
            prompt = self.prompts["ground"].format(phrase=without_tags(phrase))
            said = self._say(image, prompt)
            raws.append(prompt + said)
            # Whatever comes before a box is another phrase than the one that was asked for.
            first = (
                read_kosmos(raws[-1], *image.size).mentions if said.lstrip().startswith("<object>") else ()
            )
            boxes.append([box.normalized for one in first[:1] for box in one.boxes])
        answer = found_boxes(question.phrases, boxes, image.size, question.merge)
        return Reply(answer, "\n".join(raws), dialect=self.dialect)

    def ask(self, image: Image.Image, question: Question) -> Reply:
        """A question; a region in it is its cells."""
        spots = [self._cells(unit_bounds(spot, *image.size)) for spot in question.spots]
        if question.text == _REFER and spots:
            return self._read(image, self.prompts["refer"].format(cells=spots[0]))
        text = without_tags(question.text)
        for index, cells in enumerate(spots):
            text = text.replace(f"[{index}]", self.prompts["region"].format(cells=cells))
        return self._read(image, self.prompts["ask"].format(text=text))

    def describe(self, image: Image.Image, question: Question) -> Reply:
        """A caption with its boxes."""
        return self._read(image, self.prompts["describe"])

    def _read(self, image: Image.Image, prompt: str) -> Reply:
        raw = self._say(image, prompt)
        return Reply(read_kosmos(raw, *image.size), raw, dialect=self.dialect)

    def _say(self, image: Image.Image, prompt: str) -> str:
        inputs = self._processor(text=prompt, images=image, return_tensors="pt")
        ids = self.generate(self._model, inputs)
        new = ids[inputs["input_ids"].shape[1] :]
        words: str = self._processor.tokenizer.decode(new, skip_special_tokens=True)
        return words

    @staticmethod
    def _cells(box: BoxNumbers) -> str:
        return "".join(f"<patch_index_{cell:04d}>" for cell in box_to_cells(box))
