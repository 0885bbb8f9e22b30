"""A sample -> tokens and labels in a model's own words: the paper's text coordinates, or Kit's location tokens.

The same words that the model is asked in (`openferret.generation.questions`) and that its answers are read from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from openferret import prompts
from openferret.coordinates import box_to_bins, format_bins_text
from openferret.data.loading.pointing import KINDS, Shown, show_region
from openferret.data.marks import grounded_phrases, plain_text, replace_marks
from openferret.data.schema import Sample
from openferret.errors import InputError
from openferret.model.configuration import FerretConfig
from openferret.phrases import last_noun_phrase
from openferret.processing.processor import FerretProcessor, escape_text
from openferret.regions import Region, fit_region
from openferret.train.batches.batch import IGNORED, Dialogue

# A Unicode noncharacter, which no text holds: stands around a region's number while words are escaped.
_AROUND = "\ufdd1"
_NUMBER = re.compile(f"{_AROUND}([0-9]+){_AROUND}")
_PICTURE_MARK = re.compile(rf"\s*{prompts.IMAGE_TOKEN}\s*")
_MOST_BOXES = 8  # of a phrase in Kit's words, as in its own training


@dataclass(frozen=True)
class DialogueWriter:
    """Writes dialogues for one model.

    Args:
        processor: the model's own.
        config: of the model.
        kinds: how a box of a question may be shown.
        seed: of what is drawn.
        room: most tokens of a row, the prefix included.
    """

    processor: FerretProcessor
    config: FerretConfig
    kinds: Sequence[Shown] = KINDS
    seed: int = 0
    room: int = 2048

    def prefix(self) -> list[int]:
        """Tokens of a picture's prefix, placeholders included: what all its dialogues share."""
        return self.processor.tokenize(self.processor.expand_pictures(self.processor.conversation.opening))

    def write(self, sample: Sample, epoch: int) -> Dialogue:
        """Tokens, labels and regions of a sample; another epoch may show its boxes otherwise.

        A dialogue that is longer than the room is cut at its end.

        Raises:
            InputError: a region that cannot be used, or no room for a picture.
        """
        words = self.processor.conversation
        shown: dict[int, Region] = {}
        mentioned: list[Region] = []
        ids: list[int] = []
        learned: list[bool] = []
        for number in range(0, len(sample.turns), 2):
            before = words.following if number else words.first
            if not number and sample.picture is None:
                before = words.opening.replace(prompts.IMAGE_TOKEN, "")
            question, pointed = self._question(sample, number, epoch, shown)
            answer = self._answer(sample, number + 1)
            # SentencePiece gives the space after "ASSISTANT:" to the answer's first word.
            space = "" if words.answer[-1:].isspace() else " "
            asked = f"{before}{question}{words.answer}{space}"
            turn = self.processor.tokenize(f"{asked}{answer}{words.closing}")
            silent = len(self.processor.tokenize(asked)) - len(space)
            ids += turn
            learned += [False] * silent + self._learned(turn[silent:])
            mentioned += pointed
        room = self.room - (len(self.prefix()) if sample.picture is not None else 0)
        if room < 2:
            raise InputError(
                f"data.max_length ({self.room}) leaves no room for words: a picture takes {self.room - room} tokens"
            )
        ids, learned = ids[:room], learned[:room]
        kept = ids.count(self.config.region_token_id)
        labels = [token if goal else IGNORED for token, goal in zip(ids[1:], learned[1:], strict=True)]
        return Dialogue(sample, tuple(ids), (*labels, IGNORED), tuple(mentioned[:kept]))

    def _question(
        self, sample: Sample, number: int, epoch: int, shown: dict[int, Region]
    ) -> tuple[str, list[Region]]:
        text = sample.turns[number].text.replace(_AROUND, "")
        # The picture is the prefix, wherever the sample's writer put it.
        text = _PICTURE_MARK.sub(" ", text).strip()
        pointed: list[Region] = []

        def write(match: re.Match[str]) -> str:
            index = int(match[1])
            if index not in shown:
                region = show_region(sample, index, epoch, self.seed, self.kinds)
                shown[index] = fit_region(region, *_size(sample))[0]
            pointed.append(shown[index])
            return self.processor.region_words(shown[index], *_size(sample))

        marked = replace_marks(text, lambda _, index: f"{_AROUND}{index}{_AROUND}")
        return _NUMBER.sub(write, escape_text(marked)), pointed

    def _answer(self, sample: Sample, number: int) -> str:
        text = sample.turns[number].text
        plain, pieces, end = plain_text(text), [], 0
        for found in grounded_phrases(text):
            phrase = found.phrase
            if not phrase:  # the answer is a box alone: it is of what was asked for
                question = plain_text(sample.turns[number - 1].text)
                start, stop = last_noun_phrase(question)
                phrase = question[start:stop] or "it"
            before = escape_text(plain[end : found.span[0]])
            pieces += [before, self._grounded(escape_text(phrase), sample, found.regions, bool(found.phrase))]
            end = found.span[1]
        return "".join([*pieces, escape_text(plain[end:])])

    def _grounded(self, phrase: str, sample: Sample, regions: Sequence[int], written: bool) -> str:
        boxes = [box_to_bins(sample.box(index), *_size(sample)) for index in regions]
        if self.config.coordinate_format == "text":
            return " ".join([*([phrase] if written else []), *map(format_bins_text, boxes)])
        tokens = ("".join(map(prompts.location_token, box)) for box in sorted(boxes)[:_MOST_BOXES])
        return prompts.PHRASE_TOKEN + phrase + "".join(prompts.BOX_TOKEN + one for one in tokens)

    def _learned(self, answer: Sequence[int]) -> list[bool]:
        first = self.config.first_location_token_id
        if not self.config.use_locator or first is None:
            return [True] * len(answer)
        # Locations are the locator's, and so is the decision for one more box after them.
        pairs = zip((None, *answer), answer, strict=False)
        return [
            token < first
            and not (token == self.config.box_token_id and before is not None and before >= first)
            for before, token in pairs
        ]


def _size(sample: Sample) -> tuple[int, int]:
    picture = sample.picture
    return (0, 0) if picture is None else (picture.width, picture.height)
