"""Answers, token by token, several questions of one picture at once; the locator writes their boxes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import torch
from torch import Tensor

from openferret.checks import finite_number, whole_number
from openferret.coordinates import UnitBox, to_bin
from openferret.errors import InputError
from openferret.generation.choosing import Choosing, choosing
from openferret.generation.engines import AnyFerret
from openferret.generation.evidence import lay_presence_over
from openferret.generation.locating import INSTANCE_THRESHOLD, find_phrases
from openferret.generation.naming import NounEvidence
from openferret.generation.prefix import Continuation, PicturePrefix
from openferret.generation.questions import Question
from openferret.processing.preparing import Preparing
from openferret.prompts import LOCATION_BINS

_MOST_BOXES = 8  # of one phrase, as in training
_COLDEST = 1e-30  # logits divided by less leave float32


@dataclass(frozen=True)
class Decoding:
    """How answers are written.

    Attributes:
        max_new_tokens: an answer ends after so many.
        temperature: 0 takes the most probable token; above, tokens are drawn.
        seed: of the draws.
        merged: one box around all instances of a phrase.
        instance_threshold: least probability of an instance.

    Raises:
        InputError: max_new_tokens is not 1 or more, temperature is below 0 or not finite, seed is no whole number of
            64 bits, or instance_threshold is no probability.
    """

    max_new_tokens: int = 96
    temperature: float = 0.0
    seed: int = 0
    merged: bool = False
    instance_threshold: float = INSTANCE_THRESHOLD

    def __post_init__(self) -> None:
        whole_number(self.max_new_tokens, "max_new_tokens", at_least=1)
        if finite_number(self.temperature, "temperature") < 0:
            raise InputError(f"temperature must be 0 or more, not {self.temperature}")
        if whole_number(self.seed, "seed", at_least=0) >= 2**63:
            raise InputError(f"seed must be below 2 to the power of 63, not {self.seed}")
        if not 0 <= finite_number(self.instance_threshold, "instance_threshold") <= 1:
            raise InputError(f"instance_threshold must lie between 0 and 1, not {self.instance_threshold}")


@dataclass(frozen=True)
class Generated:
    """An answer as the model wrote it.

    Attributes:
        text: special tokens included, the closing one not.
        ids: its tokens.
        box_scores: probability of each box that the locator wrote, in the order of the text.
        probabilities: of the tokens that the language model chose (not of a locator's).
        complete: the model ended the answer itself.
        seconds: "prefill" and "decode", shared by all rows of a batch.
    """

    text: str
    ids: tuple[int, ...]
    box_scores: tuple[float, ...]
    probabilities: tuple[float, ...]
    complete: bool
    seconds: Mapping[str, float]

    @property
    def confidence(self) -> float:
        """Geometric mean of the chosen tokens' probabilities; 0 for an empty answer."""
        if not self.probabilities:
            return 0.0
        return math.exp(
            sum(math.log(max(one, 1e-30)) for one in self.probabilities) / len(self.probabilities)
        )


@dataclass
class _Answer:
    """An answer that is being written.

    Attributes:
        phrase: the tokens since an open `<phrase>`.
        nouns: float [N], what the namer would call the region, until a noun has been written.
        begun: where in `ids` that noun begins.
        named: that noun has just been written.
        seen: float [N], what the namer sees on the picture that a description has not named yet.
        choosing: what the namer thinks of the two things that the question offers.
    """

    ids: list[int] = field(default_factory=list)
    fresh: list[int] = field(default_factory=list)
    phrase: list[int] | None = None
    scores: list[float] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    complete: bool = False
    nouns: Tensor | None = None
    begun: int | None = None
    named: bool = False
    seen: Tensor | None = None
    choosing: Choosing | None = None


def decode(
    model: AnyFerret,
    processor: Preparing,
    prefix: PicturePrefix,
    questions: Sequence[Question],
    how: Decoding = Decoding(),
    on_token: Callable[[int, str], None] | None = None,
) -> list[Generated]:
    """Answers several questions of one picture together, each as if it were alone.

    Args:
        model: in evaluation mode.
        processor: the model's own.
        prefix: of the picture.
        questions: at least one.
        how: length, temperature, boxes.
        on_token: called with the row and the text of what it has just written.
    """
    return extend(Continuation(model, processor, prefix, len(questions)), questions, how, on_token)


def extend(
    rows: Continuation,
    questions: Sequence[Question],
    how: Decoding = Decoding(),
    on_token: Callable[[int, str], None] | None = None,
) -> list[Generated]:
    """As `decode`, for rows that may already hold earlier turns; a single row then holds this turn too.

    The last token of an answer is not in the cache when this returns.
    """
    writer = _Writer(rows, how)
    answers = [_Answer() for _ in questions]
    started = perf_counter()
    logits = rows.append(
        [one.ids for one in questions], [region for one in questions for region in one.regions]
    )
    writer.begin(answers, questions, logits)
    prefilled = perf_counter()
    active = list(range(len(questions)))
    while active:
        for place, number in enumerate(active):
            answer = answers[number]
            writer.write(answer, logits[place])
            if on_token is not None and answer.fresh:
                on_token(number, rows.processor.tokenizer.decode(answer.fresh))
        going = [place for place, number in enumerate(active) if not writer.done(answers[number])]
        if 0 < len(going) < len(active):
            rows.keep(going)
        active = [active[place] for place in going]
        if active:
            logits = rows.append([answers[number].fresh for number in active])
    seconds = {"prefill": prefilled - started, "decode": perf_counter() - prefilled}
    tokenizer = rows.processor.tokenizer
    return [
        Generated(
            tokenizer.decode(one.ids, skip_special_tokens=False, clean_up_tokenization_spaces=False),
            tuple(one.ids),
            tuple(one.scores),
            tuple(one.probabilities),
            one.complete,
            seconds,
        )
        for one in answers
    ]


class _Writer:
    """Chooses tokens: what may follow, what the locator forces, when to stop."""

    def __init__(self, rows: Continuation, how: Decoding) -> None:
        config, tokenizer = rows.model.config, rows.processor.tokenizer
        self.rows = rows
        self.how = how
        self.locates = bool(config.use_locator)
        ids = (config.phrase_token_id, config.box_token_id, config.first_location_token_id)
        # -1 is no token: models that write coordinates as text have none of these.
        self.phrase, self.box, self.first_location = (-1 if one is None else one for one in ids)
        self.nouns: NounEvidence | None = None
        self.stop = rows.processor.stop_ids
        self.generator = torch.Generator(rows.model.device).manual_seed(how.seed)
        allowed = {self.phrase, self.box, *self.stop}
        if self.first_location >= 0 and not self.locates:
            allowed |= set(range(self.first_location, self.first_location + LOCATION_BINS))
        special = [i for i, token in tokenizer.added_tokens_decoder.items() if token.special]
        size = config.text_config.vocab_size
        self.forbidden = torch.tensor(
            [one for one in special if one not in allowed and one < size],
            dtype=torch.long,
            device=rows.model.device,
        )

    def begin(self, answers: Sequence[_Answer], questions: Sequence[Question], logits: Tensor) -> None:
        """Asks the locator and the namer about what turns on their knowledge; changes the first logits in place."""
        model, rows = self.rows.model, self.rows
        if self.locates and (asking := [row for row, one in enumerate(questions) if one.sought is not None]):
            sought = [one.sought for one in questions if one.sought is not None]
            first = logits[asking]
            lay_presence_over(model, rows.processor, rows.prefix.encoded, sought, first)
            logits[asking] = first
        if model.config.noun_forms:
            self._ask_namer(answers, questions)

    def _ask_namer(self, answers: Sequence[_Answer], questions: Sequence[Question]) -> None:
        rows, config = self.rows, self.rows.model.config
        if asking := [row for row, one in enumerate(questions) if one.naming or one.choice is not None]:
            named = rows.nouns([questions[row].regions[0] for row in asking])
            for row, nouns in zip(asking, named, strict=True):
                choice = questions[row].choice
                if choice is None:
                    answers[row].nouns = nouns
                else:
                    answers[row].choosing = choosing(rows.processor, config.nouns, nouns, choice)
        if rows.prefix.encoded.nouns is not None:
            for answer, one in zip(answers, questions, strict=True):
                if one.describing:
                    answer.seen = rows.prefix.encoded.nouns[0]
        if any(one.nouns is not None or one.seen is not None for one in answers):
            self.nouns = NounEvidence(rows.processor, config.noun_forms, rows.model.device)

    def write(self, answer: _Answer, logits: Tensor) -> None:
        """Chooses an answer's next token, and after `<box>` adds what the locator says."""
        token, probability = self._choose(answer, logits)
        answer.probabilities.append(probability)
        answer.fresh = [token]
        if token in self.stop:
            answer.complete = True
            answer.fresh = []
            return
        if token == self.phrase:
            answer.phrase = []
        elif token == self.box and self.locates and answer.phrase:
            answer.fresh = self._locate(answer)
            answer.phrase = None
        elif answer.phrase is not None:
            answer.phrase.append(token)
        answer.ids += answer.fresh

    def done(self, answer: _Answer) -> bool:
        """Whether an answer has come to an end."""
        full = self.rows.room <= len(answer.fresh) or len(answer.ids) >= self.how.max_new_tokens
        return answer.complete or full

    def _choose(self, answer: _Answer, logits: Tensor) -> tuple[int, float]:
        open_logits = logits.index_fill(0, self.forbidden, -torch.inf)
        if self.locates and not answer.phrase:
            # Without words there is nothing to locate; and how many boxes a phrase has, the locator has said.
            open_logits[self.box] = -torch.inf
        barred = None if self.nouns is None else self._hear_namer(answer, open_logits, self.nouns)
        if answer.choosing is not None:
            answer.choosing.lay_over(answer.ids, open_logits)
        likely = open_logits.softmax(-1)
        if self.how.temperature > 0:
            drawn = (open_logits / max(self.how.temperature, _COLDEST)).softmax(-1)
            token = int(torch.multinomial(drawn, 1, generator=self.generator))
        elif barred is not None:
            token = int(open_logits.masked_fill(barred, -torch.inf).argmax())
        else:
            token = int(open_logits.argmax())
        if self.nouns is not None:
            token = self._tell_namer(answer, token, self.nouns)
        return token, float(likely[token])

    def _hear_namer(self, answer: _Answer, logits: Tensor, evidence: NounEvidence) -> Tensor | None:
        """Lets the namer change the next token's logits in place; what it returns, `NounEvidence.lay_over` says."""
        if answer.nouns is not None:
            return evidence.lay_over(logits, answer.nouns, answer.ids, answer.begun)
        if answer.named:
            evidence.bar_noun(logits)
        elif answer.seen is not None and answer.phrase is not None:
            evidence.lay_seen_over(logits, answer.seen, not answer.ids)
        return None

    def _tell_namer(self, answer: _Answer, token: int, evidence: NounEvidence) -> int:
        """What was chosen, its article fitted; keeps what the namer still has a say in."""
        answer.named = False
        if answer.nouns is not None:
            if evidence.is_article(token) and answer.begun is None:
                return evidence.fitting(token, answer.nouns)
            if answer.begun is None and evidence.begins_noun(token):
                answer.begun = len(answer.ids)
            if answer.begun is not None and not evidence.may_go_on([*answer.ids, token], answer.begun):
                answer.nouns = None  # what follows the noun ("a man in a shirt") the namer knows nothing of
                answer.named = True
        elif answer.seen is not None and evidence.begins_noun(token):
            answer.seen = evidence.without(answer.seen, token)
        return token

    def _locate(self, answer: _Answer) -> list[int]:
        found = find_phrases(
            self.rows.model,
            self.rows.prefix.encoded,
            [answer.phrase or []],
            merged=self.how.merged,
            threshold=self.how.instance_threshold,
        )[0]
        best = sorted(zip(found.boxes, found.scores, strict=True), key=lambda pair: -pair[1])[:_MOST_BOXES]
        tokens = []
        # Left to right, as the answers of the training data name them.
        for box, score in sorted(best):
            tokens += [self.box, *(self.first_location + one for one in unit_box_bins(box))]
            answer.scores.append(score)
        return tokens


def unit_box_bins(box: UnitBox) -> tuple[int, ...]:
    """(x1, y1, x2, y2) in 0..1 -> bins 0..999.

    Example:
        >>> unit_box_bins((0.0, 0.25, 0.5, 1.0))
        (0, 250, 500, 999)
    """
    return tuple(to_bin(side * LOCATION_BINS, LOCATION_BINS) for side in box)
