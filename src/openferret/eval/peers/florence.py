"""Florence-2 (arXiv 2311.06242): tasks instead of questions. Its native form in transformers, without remote code.

It has tasks to ground phrases, to caption, and to name a region; none for a free question: such a question is a
failed reply, and counts as wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from openferret.errors import InputError
from openferret.eval.dialects import place_in, read_florence
from openferret.eval.metrics.boxes import BoxNumbers
from openferret.eval.peers.base import Peer, found_boxes, unit_bounds, without_tags
from openferret.eval.questions import Question, Reply

if TYPE_CHECKING:
    from PIL import Image


class Florence(Peer):
    """Florence-2, by its task tokens."""

    dialect = "florence"
    prompts: ClassVar[dict[str, str]] = {
        "ground": "<CAPTION_TO_PHRASE_GROUNDING>{phrases}",
        "refer": "<REGION_TO_CATEGORY>{place}",
        "describe": "<CAPTION>",
    }

    def open(self, folder: Path) -> None:
        """Model and processor."""
        from transformers import AutoProcessor

        self._processor: Any = AutoProcessor.from_pretrained(folder, local_files_only=True)
        self._model = self.load_model(folder)

    def ground(self, image: Image.Image, question: Question) -> Reply:
        """All phrases at once, as if they were a caption; one alone gets all boxes that come."""
        raw = self._say(image, self._grounding(", ".join(map(without_tags, question.phrases))))
        mentions = read_florence(raw, *image.size).mentions
        boxes: list[list[BoxNumbers]] = [[] for _ in question.phrases]
        places = {_letters(phrase): index for index, phrase in enumerate(question.phrases)}
        for one in mentions:
            index = 0 if len(boxes) == 1 else places.get(_letters(one.phrase))
            if index is not None:
                boxes[index] += [box.normalized for box in one.boxes]
        answer = found_boxes(question.phrases, boxes, image.size, question.merge)
        return Reply(answer, raw, dialect=self.dialect)

    def ask(self, image: Image.Image, question: Question) -> Reply:
        """What is at the one region that is pointed at, whatever is asked of it."""
        if len(question.spots) != 1:
            raise InputError("Florence-2 has no task for a free question")
        bounds = unit_bounds(question.spots[0], *image.size)
        place = "".join(f"<loc_{min(max(int(value * 1000), 0), 999)}>" for value in bounds)
        raw = self._say(image, self.prompts["refer"].format(place=place))
        return Reply(read_florence(raw, *image.size), raw, dialect=self.dialect)

    def describe(self, image: Image.Image, question: Question) -> Reply:
        """A caption, and where what it names is."""
        said = self._say(image, self.prompts["describe"])
        caption = read_florence(said, *image.size).text
        raw = self._say(image, self._grounding(without_tags(caption))) if caption else ""
        answer = place_in(caption, read_florence(raw, *image.size))
        return Reply(answer, f"{said}\n{raw}", dialect=self.dialect)

    def _grounding(self, phrases: str) -> str:
        return self.prompts["ground"].format(phrases=phrases)

    def _say(self, image: Image.Image, prompt: str) -> str:
        inputs = self._processor(text=prompt, images=image, return_tensors="pt")
        # Its locations are special tokens: nothing may be skipped.
        words: str = self._processor.tokenizer.decode(
            self.generate(self._model, inputs), skip_special_tokens=False
        )
        return words


def _letters(words: str) -> str:
    return "".join(letter for letter in words.lower() if letter.isalnum())
