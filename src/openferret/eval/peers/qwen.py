"""Qwen2.5-VL and Qwen3-VL: chat in words, boxes as JSON.

The one counts in pixels of the picture as it was resized for it, the other in thousandths.

Tokens are put together here: the processors of transformers want a video processor, and that torchvision.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from openferret.answer import Answer
from openferret.eval.dialects import place_in, read_qwen
from openferret.eval.metrics.boxes import BoxNumbers
from openferret.eval.peers.base import Peer, found_boxes, without_tags
from openferret.eval.questions import Question, Reply
from openferret.eval.wording import WORDS, in_words, where_all

if TYPE_CHECKING:
    from PIL import Image

_IMAGE = "<|image_pad|>"


@dataclass(frozen=True)
class _Seen:
    """A picture as the model is shown it: its tensors, and its size there in pixels."""

    inputs: Any
    width: int
    height: int
    tokens: int


class _Qwen(Peer):
    """What both have in common.

    Attributes:
        system: what stands before the question.
    """

    system: ClassVar[str] = ""
    prompts: ClassVar[dict[str, str]] = {"words": WORDS}

    def open(self, folder: Path) -> None:
        """Model, tokenizer and what prepares pictures."""
        from transformers import AutoImageProcessor, AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._prepare: Any = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        self._model = self.load_model(folder)

    def ground(self, image: Image.Image, question: Question) -> Reply:
        """All phrases at once, told apart by their labels; one alone gets all boxes that come."""
        seen = self._see(image)
        raw = self._say(seen, self._words(question, seen))
        boxes: list[list[BoxNumbers]] = [[] for _ in question.phrases]
        places = {phrase.lower(): index for index, phrase in enumerate(question.phrases)}
        for one in self._read(raw, image, seen).mentions:
            index = 0 if len(boxes) == 1 else places.get(one.phrase.lower())
            if index is not None:
                boxes[index] += [box.normalized for box in one.boxes]
        answer = found_boxes(question.phrases, boxes, image.size, question.merge)
        return Reply(answer, raw, dialect=self.dialect)

    def ask(self, image: Image.Image, question: Question) -> Reply:
        """A question in words; a region in it is its coordinates."""
        seen = self._see(image)
        raw = self._say(seen, self._words(question, seen))
        return Reply(self._read(raw, image, seen), raw, dialect=self.dialect)

    def describe(self, image: Image.Image, question: Question) -> Reply:
        """A caption, and where what it names is."""
        seen = self._see(image)
        said = self._say(seen, self._words(question, seen))
        caption = self._read(said, image, seen).text
        raw = self._say(seen, where_all(without_tags(caption), self.dialect, seen.width, seen.height))
        return Reply(place_in(caption, self._read(raw, image, seen)), f"{said}\n{raw}", dialect=self.dialect)

    def _words(self, question: Question, seen: _Seen) -> str:
        return without_tags(in_words(question, self.dialect, seen.width, seen.height))

    def _read(self, raw: str, image: Image.Image, seen: _Seen) -> Answer:
        space = (seen.width, seen.height) if self.dialect == "qwen2.5" else (1000, 1000)
        return read_qwen(raw, *image.size, space)

    def _see(self, image: Image.Image) -> _Seen:
        inputs = self._prepare(images=[image], return_tensors="pt")
        _, rows, columns = inputs["image_grid_thw"][0].tolist()
        side = self._prepare.patch_size
        return _Seen(inputs, columns * side, rows * side, rows * columns // self._prepare.merge_size**2)

    def _say(self, seen: _Seen, words: str) -> str:
        picture = f"<|vision_start|>{_IMAGE * seen.tokens}<|vision_end|>"
        text = f"{self.system}<|im_start|>user\n{picture}{words}<|im_end|>\n<|im_start|>assistant\n"
        written = self._tokenizer(text, return_tensors="pt", add_special_tokens=False)
        ids = written["input_ids"]
        marks = (ids == self._tokenizer.convert_tokens_to_ids(_IMAGE)).long()
        inputs = {"input_ids": ids, "attention_mask": written["attention_mask"], "mm_token_type_ids": marks}
        said = self.generate(self._model, {**inputs, **seen.inputs})
        answer: str = self._tokenizer.decode(said[ids.shape[1] :], skip_special_tokens=True)
        return answer


class Qwen25(_Qwen):
    """Qwen2.5-VL (arXiv 2502.13923)."""

    dialect = "qwen2.5"
    system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"


class Qwen3(_Qwen):
    """Qwen3-VL."""

    dialect = "qwen"
