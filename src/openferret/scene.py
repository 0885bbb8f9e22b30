"""A picture that a model has read, and what it can be asked: refer, ground, ask, describe, detect, chat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import TypeVar

from PIL import Image

from openferret import prompts
from openferret.answer import Answer, LocatedBox, Mention, parse_answer
from openferret.checks import check_kind, finite_number, listed, shorten, whole_number
from openferret.coordinates import denormalize_box
from openferret.errors import InputError
from openferret.generation.decode import Decoding, Generated, decode, extend
from openferret.generation.drafts import worth, write_drafts
from openferret.generation.grounding import ground_phrases, is_cut
from openferret.generation.locating import rank_phrases, separate_objects
from openferret.generation.prefix import Continuation, PicturePrefix, context_length
from openferret.generation.presence import PRESENCE_THRESHOLD, seen_on
from openferret.generation.questions import Question, write_question
from openferret.loading import LoadedModel
from openferret.phrases import with_determiner
from openferret.processing.preparing import escape_text
from openferret.regions import Box, Region, region_bounds

OBJECT_THRESHOLD = 0.3
_WHERE = "What is the location of {phrase} in the image?"  # the paper's models
_LONGEST_PHRASE = 1000  # characters, many more than a locator reads
_REGIONS = "[Box(10, 20, 200, 220)]"
_ROWS_AT_ONCE = 32  # asked together: bounds the memory of their caches

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture that a model has read; `openferret.Ferret.encode` makes it.

    Attributes:
        loaded: the model and its processor.
        image: the upright RGB picture; regions and answers are in its pixels.
        prefix: what the model keeps of it.
        seconds: how long reading it took.
    """

    loaded: LoadedModel
    image: Image.Image
    prefix: PicturePrefix
    seconds: float

    @property
    def width(self) -> int:
        """Of the picture in pixels."""
        return self.image.width

    @property
    def height(self) -> int:
        """Of the picture in pixels."""
        return self.image.height

    def refer(self, region: Region, question: str | None = None, *, max_new_tokens: int = 48) -> Answer:
        """What is this?

        Args:
            region: in pixels of the picture.
            question: about the region, which it may call `[0]`; None asks what it is.
            max_new_tokens: an answer ends after so many.

        Returns:
            The answer. To "what is this" its words are a mention of the region: the box is the bounds of the
            region, the score the geometric mean of the words' probabilities.

        Raises:
            InputError: a region that cannot be used, or a question that is empty or mentions other regions.
        """
        return self.refer_many([region], question, max_new_tokens=max_new_tokens)[0]

    def refer_many(
        self, regions: Sequence[Region], question: str | None = None, *, max_new_tokens: int = 48
    ) -> list[Answer]:
        """`refer` for each region, decoded together."""
        text = prompts.REFER.format(region="[0]") if question is None else question
        check_kind(text, "a question", str)
        regions = listed(regions, "regions", _REGIONS)
        if text.strip() and "[0]" not in text:
            text = f"Region [0]: {text}"
        questions = [self._write(text, [region]) for region in regions]
        answers = []
        for region, asked, written in zip(
            regions, questions, self._decode(questions, max_new_tokens), strict=True
        ):
            answer = self._read(written, asked.warnings)
            if question is None and answer.text and not answer.mentions:
                bounds = region_bounds(region, self.width, self.height)
                box = LocatedBox.of(bounds, self.width, self.height, written.confidence)
                answer = replace(answer, mentions=(Mention(answer.text, (0, len(answer.text)), (box,)),))
            answers.append(answer)
        return answers

    def ground(
        self,
        phrases: str | Sequence[str],
        merge: bool = False,
        threshold: float | None = None,
        *,
        max_new_tokens: int = 96,
    ) -> Answer:
        """Where is this?

        Args:
            phrases: one phrase or several, such as "a dog".
            merge: one box around all instances of a phrase rather than one for each.
            threshold: probability 0..1 below which a phrase is said not to be in the picture; None for the
                default. Models without a locator decide by themselves.
            max_new_tokens: for models that write boxes as text.

        Returns:
            A mention for each phrase, in order; one without boxes is not in the picture. A box's score is the
            probability that it lies right (IoU of at least 0.5 with where the thing is), and may be below `threshold`,
            which is of the phrase alone.

        Raises:
            InputError: no phrase, an empty phrase, or a threshold outside 0..1.
        """
        names = _spaced(phrases)
        if not names or not all(names):
            raise InputError("a phrase to look for is empty; name something, such as 'a dog'")
        least = _checked(threshold, PRESENCE_THRESHOLD)
        locates = self.loaded.model.config.use_locator
        template = _WHERE if not locates else prompts.GROUND_MERGED if merge else prompts.GROUND
        # Kit learned its phrases from captions, in lower case: asked of 45 train pictures of COCO for 268 classes, half
        # of them absent, it was right in 83 % with an article and in 70 % without.
        words = [with_determiner(name.lower()) if locates else name for name in names]
        questions = [self._write(template.format(phrase=one), []) for one in words]
        started = perf_counter()
        if locates:
            boxes = [
                one
                for batch in _batches([*zip(words, questions, strict=True)])
                for one in self._locate(batch, merge, least)
            ]
        else:
            answers = [self._read(one) for one in self._decode(questions, max_new_tokens)]
            boxes = [[box for mention in one.mentions for box in mention.boxes] for one in answers]
            boxes = [self._hull(one) if merge else one for one in boxes]
        warnings = [warning for one in questions for warning in one.warnings]
        if locates:
            warnings += [
                f"the phrase {shorten(one)!r} is too long; only its first words were looked for"
                for one in words
                if is_cut(self.loaded.processor, one)
            ]
        return self._named(names, boxes, {"ground": perf_counter() - started}, warnings)

    def rank(self, phrases: str | Sequence[str], most: int = 10) -> list[tuple[LocatedBox, ...]]:
        """The best guesses at one box around all that each phrase names, for measures such as recall at 10.

        Args:
            phrases: one phrase or several, such as "a dog".
            most: at most so many boxes for a phrase, at least 1.

        Returns:
            For each phrase different boxes, best first; the first is that of `ground` with `merge`. They have
            no scores, and nothing is said about whether the phrase is in the picture.

        Raises:
            InputError: an empty phrase, `most` below 1, or a model without a locator, which has no ranks.
        """
        if not self.loaded.model.config.use_locator:
            raise InputError(f"{self.loaded.name} writes its boxes as text: it has no ranked ones")
        words = [one.lower() for one in _spaced(phrases)]
        whole_number(most, "most", at_least=1)
        if not all(words):
            raise InputError("a phrase to rank is empty; name something, such as 'a dog'")
        ids = [self.loaded.processor.tokenize(escape_text(one[:_LONGEST_PHRASE])) for one in words]
        return [
            tuple(
                LocatedBox.of(denormalize_box(box, self.width, self.height), self.width, self.height)
                for box in boxes
            )
            for batch in _batches(ids)
            for boxes in rank_phrases(self.loaded.model, self.prefix.encoded, batch, most=most)
        ]

    def describe(self, *, drafts: int = 1, max_new_tokens: int = 128) -> Answer:
        """A description of the picture, with boxes for what it names.

        Args:
            drafts: written, 1 to 32; of several the one is given that tells most of what is seen. Nine name more
                of what is there than one, and take about six times as long to write (docs/training.md).
            max_new_tokens: a description ends after so many.

        Raises:
            InputError: drafts is out of range.
        """
        if drafts == 1:
            return self.ask(prompts.DESCRIBE, max_new_tokens=max_new_tokens)
        asked, how = self._write(prompts.DESCRIBE, []), Decoding(max_new_tokens=max_new_tokens)
        loaded, started = self.loaded, perf_counter()
        write = partial(decode, loaded.model, loaded.processor, self.prefix)
        answer = self.best_draft(write_drafts(write, asked, how, drafts), asked.warnings)
        return replace(answer, timings=self._timed({"describe": perf_counter() - started}))

    def best_draft(self, drafts: Sequence[Generated], warnings: Sequence[str] = ()) -> Answer:
        """Of several descriptions of the picture the one that tells most of what is seen.

        Args:
            drafts: at least one, as the model wrote them.
            warnings: of the question that they answer.
        """
        best = max(drafts, key=lambda one: worth(one, self._seen(self._read(one))))
        return self._read(best, warnings)

    def detect(self, threshold: float | None = None, *, max_new_tokens: int = 24) -> Answer:
        """Everything the model can name.

        Args:
            threshold: least probability 0..1 of an object; None for the default.
            max_new_tokens: for each name.

        Returns:
            A mention for each name, with the boxes of all objects of that name, the most certain first; a
            score is the probability of an object. Of boxes of one name that show the same thing the most certain is
            left. Models without proposals name what they describe.

        Raises:
            InputError: a threshold outside 0..1.
        """
        least = _checked(threshold, OBJECT_THRESHOLD)
        encoded = self.prefix.encoded
        if encoded.object_boxes is None or encoded.object_scores is None or encoded.object_distinct is None:
            return self.describe(max_new_tokens=max_new_tokens)
        kept = encoded.object_distinct[0] & (encoded.object_scores[0] >= least)
        scores, order = encoded.object_scores[0][kept].sort(descending=True)
        unit = encoded.object_boxes[0][kept][order]
        started = perf_counter()
        regions = [denormalize_box(one, self.width, self.height) for one in unit.tolist()]
        alike: dict[str, list[int]] = {}
        for number, answer in enumerate(self.refer_many(regions, max_new_tokens=max_new_tokens)):
            alike.setdefault(answer.text.strip(" .") or "something", []).append(number)
        certain = scores.tolist()
        named = {
            name: [
                LocatedBox.of(regions[numbers[one]], self.width, self.height, certain[numbers[one]])
                for one in separate_objects(unit[numbers])
            ]
            for name, numbers in alike.items()
        }
        timings = {"detect": perf_counter() - started}
        if not named:
            return Answer(
                "nothing found", (), self.width, self.height, self.loaded.name, self._timed(timings)
            )
        return self._named(list(named), list(named.values()), timings)

    def ask(self, question: str, regions: Sequence[Region] = (), *, max_new_tokens: int = 96) -> Answer:
        """Any question about the picture.

        Args:
            question: `[0]`, `[1]`, ... in it stand for the regions.
            regions: in pixels of the picture.
            max_new_tokens: an answer ends after so many.

        Raises:
            InputError: an empty question, `[k]` without such a region, or a region that cannot be used.
        """
        asked = self._write(question, regions)
        return self._read(self._decode([asked], max_new_tokens)[0], asked.warnings)

    def chat(self) -> Chat:
        """A conversation of several turns about the picture."""
        return Chat(self)

    def _locate(
        self, asked: Sequence[tuple[str, Question]], merge: bool, least: float
    ) -> Iterator[list[LocatedBox]]:
        model, processor = self.loaded.model, self.loaded.processor
        phrases, questions = zip(*asked, strict=True)
        for one in ground_phrases(model, processor, self.prefix, phrases, questions, merge):
            pairs = zip(one.boxes, one.scores, strict=True) if one.presence >= least else ()
            yield [
                LocatedBox.of(denormalize_box(box, self.width, self.height), self.width, self.height, score)
                for box, score in pairs
            ]

    def _seen(self, answer: Answer) -> list[float]:
        """Of the things that an answer names and the namer knows, the probability that each is on the picture."""
        nouns, encoded = self.loaded.model.config.nouns, self.prefix.encoded
        seen = (seen_on(encoded, nouns, one.phrase) for one in answer.mentions)
        return [one for one in seen if one is not None]

    def _hull(self, boxes: Sequence[LocatedBox]) -> list[LocatedBox]:
        if not boxes:
            return []
        left, top, right, bottom = zip(*(box.pixels for box in boxes), strict=True)
        hull = Box(min(left), min(top), max(right), max(bottom))
        return [LocatedBox.of(hull, self.width, self.height)]

    def _write(self, text: str, regions: Sequence[Region]) -> Question:
        room = context_length(self.loaded.model) - self.prefix.length - 1
        return write_question(self.loaded.processor, text, regions, self.image.size, room=room)

    def _decode(self, questions: Sequence[Question], max_new_tokens: int) -> list[Generated]:
        how = Decoding(max_new_tokens=max_new_tokens)
        model, processor = self.loaded.model, self.loaded.processor
        batches = _batches(questions)
        return [one for batch in batches for one in decode(model, processor, self.prefix, batch, how)]

    def _timed(self, seconds: Mapping[str, float]) -> dict[str, float]:
        return {"encode": self.seconds, **seconds}

    def _read(self, written: Generated, warnings: Sequence[str] = ()) -> Answer:
        return parse_answer(
            written.text,
            self.width,
            self.height,
            scores=written.box_scores,
            model=self.loaded.name,
            timings=self._timed(written.seconds),
            warnings=warnings,
        )

    def _named(
        self,
        names: Sequence[str],
        boxes: Sequence[Sequence[LocatedBox]],
        seconds: Mapping[str, float],
        warnings: Sequence[str] = (),
    ) -> Answer:
        """A list of names as a sentence, each a mention with its boxes."""
        text, mentions = "", []
        for name, found in zip(names, boxes, strict=True):
            text += "; " if text else ""
            mentions.append(Mention(name, (len(text), len(text) + len(name)), tuple(found)))
            text += name if found else f"{name}: not in the picture"
        timings, unique = self._timed(seconds), tuple(dict.fromkeys(warnings))
        return Answer(text, tuple(mentions), self.width, self.height, self.loaded.name, timings, unique)


class Chat:
    """A conversation about one picture; earlier turns stay in the language model's cache.

    Args:
        scene: the picture.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._rows = self._new_rows()
        self._unread: tuple[int, ...] = ()
        self._turns = 0

    def say(self, text: str, regions: Sequence[Region] = (), *, max_new_tokens: int = 96) -> Answer:
        """The next turn.

        Args:
            text: `[0]`, `[1]`, ... in it stand for this turn's regions.
            regions: in pixels of the picture.
            max_new_tokens: an answer ends after so many.

        Returns:
            The answer. When the language model's context is full, earlier turns are forgotten with a warning.

        Raises:
            InputError: as `Scene.ask`; the conversation then stays as it was.
        """
        how = Decoding(max_new_tokens=max_new_tokens)
        asked = self._write(text, regions)
        forgotten = []
        # A length far beyond any answer's, given so that none is cut, is no reason to forget.
        answer = min(max_new_tokens, context_length(self.scene.loaded.model) // 4)
        if self._turns and self._rows.room <= len(asked.ids) + answer:
            self._restart()
            asked = self._write(text, regions)
            forgotten = ["the conversation grew too long; its earlier turns were forgotten"]
        held = self._rows.lengths[0]
        written = extend(self._rows, [asked], how)[0]
        self._turns += 1
        # What the model wrote last is not in its cache yet, and goes before the next question.
        self._unread = written.ids[self._rows.lengths[0] - held - len(asked.ids) :]
        return self.scene._read(written, [*asked.warnings, *forgotten])

    def _new_rows(self) -> Continuation:
        loaded = self.scene.loaded
        return Continuation(loaded.model, loaded.processor, self.scene.prefix, 1)

    def _restart(self) -> None:
        self._rows = self._new_rows()
        self._unread = ()
        self._turns = 0

    def _write(self, text: str, regions: Sequence[Region]) -> Question:
        if not self._turns:
            return self.scene._write(text, regions)
        processor = self.scene.loaded.processor
        before = processor.conversation.closing + processor.conversation.following
        asked = write_question(processor, text, regions, self.scene.image.size, before=before)
        return replace(asked, ids=self._unread + asked.ids)


def _spaced(phrases: str | Sequence[str]) -> list[str]:
    """One phrase or several as a list, with single spaces; InputError if there is something else."""
    given = [phrases] if isinstance(phrases, str) else listed(phrases, "phrases", '["a dog"]')
    for one in given:
        check_kind(one, "a phrase", str)
    return [" ".join(one.split()) for one in given]


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + _ROWS_AT_ONCE] for start in range(0, len(items), _ROWS_AT_ONCE))


def _checked(threshold: float | None, default: float) -> float:
    if threshold is None:
        return default
    least = finite_number(threshold, "a threshold")
    if not 0 <= least <= 1:
        raise InputError(f"a threshold is a probability between 0 and 1, not {threshold}")
    return least
