"""What Ferret-Bench and LLaVA-Bench share: open questions with reference answers, rated by a judge.

Without a judge there are figures all the same: F1 at IoU 0.5 of the reply's boxes against those written in
the reference answer, and ROUGE-L. They are ours, and no stand-in for the judge's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from openferret.errors import InputError
from openferret.eval.files import read_json_lines
from openferret.eval.judge import PROMPT, Judge, Verdict
from openferret.eval.metrics.bootstrap import FloatArray, accuracy, divide, estimate, sum_by_picture
from openferret.eval.metrics.boxes import BoxNumbers, intersection_over_union
from openferret.eval.metrics.captions import rouge_l, tokenize
from openferret.eval.questions import Question, Replies, Reply, Spot
from openferret.eval.scores import Case, Figure, Rule, Score

_NUMBER = r"\s*([01](?:\.[0-9]{1,9})?)\s*"
_BOX = re.compile(rf"\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]")
_PLACE = re.compile(rf"\[{_NUMBER},{_NUMBER}(?:,{_NUMBER},{_NUMBER})?\]")


@dataclass(frozen=True)
class Open:
    """A question, what the reference says, and what the judge is told of the picture."""

    question: Question
    category: str
    asked: str
    reference: str
    context: str = ""

    @property
    def boxes(self) -> list[BoxNumbers]:
        """Boxes written in the reference, 0..1."""
        return written_boxes(self.reference)


def written_boxes(text: str) -> list[BoxNumbers]:
    """Boxes in a text, as four numbers 0..1 in brackets.

    >>> written_boxes("a train [0.002, 0.408, 1.000, 0.683]")
    [(0.002, 0.408, 1.0, 0.683)]
    """
    found: list[BoxNumbers] = []
    for match in _BOX.finditer(text):
        x1, y1, x2, y2 = (float(number) for number in match.groups())
        found.append((x1, y1, x2, y2))
    return found


def point_at(text: str) -> tuple[str, tuple[Spot, ...]]:
    """Boxes and points in a question become [0], [1], ... and what these mean.

    >>> point_at("What is the object [0.1, 0.2, 0.3, 0.4]?")
    ('What is the object [0]?', (Spot(kind='box', numbers=(0.1, 0.2, 0.3, 0.4)),))
    """
    spots: list[Spot] = []

    def place(match: re.Match[str]) -> str:
        numbers = tuple(float(number) for number in match.groups() if number is not None)
        spots.append(Spot("box" if len(numbers) == 4 else "point", numbers))
        return f"[{len(spots) - 1}]"

    return _PLACE.sub(place, text), tuple(spots)


def read_open(questions: Sequence[Path], answers: Sequence[Path], contexts: Sequence[Path]) -> list[Open]:
    """Joins question, answer and context files by `question_id`, file by file.

    Raises:
        InputError: a line lacks a field, an id stands twice, or a question has no answer.
    """
    if len(questions) != len(answers) or (contexts and len(contexts) != len(questions)):
        raise InputError("give as many --answers (and --context) files as --questions files, in their order")
    found: dict[str, Open] = {}
    for index, path in enumerate(questions):
        references = _texts(answers[index])
        told = _texts(contexts[index]) if contexts else {}
        for number, item in read_json_lines(path):
            if not {"question_id", "image", "text", "category"} <= item.keys():
                raise InputError(f"{path} line {number} lacks question_id, image, text or category")
            key, category = str(item["question_id"]), str(item["category"])
            if key not in references:
                raise InputError(f"{path} line {number}: {answers[index]} has no answer to question {key}")
            name = f"{category} {key}"
            if name in found:
                raise InputError(f"{path} line {number} has the question_id {key} of an earlier line")
            text, spots = point_at(str(item["text"]))
            picture = Path(str(item["image"])).name
            question = Question(name, picture, "ask", text, spots=spots)
            found[name] = Open(question, category, str(item["text"]), references[key], told.get(key, ""))
    return list(found.values())


def _texts(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for number, item in read_json_lines(path):
        if "question_id" not in item or not isinstance(item.get("text"), str):
            raise InputError(f"{path} line {number} lacks question_id or text")
        if str(item["question_id"]) in texts:
            raise InputError(f"{path} line {number} has the question_id of an earlier line")
        texts[str(item["question_id"])] = item["text"]
    return texts


def told_to_judge(reply: Reply, with_boxes: bool) -> str:
    """The reply in words, its boxes as three decimals of 0..1 after their phrases, or left out."""
    if reply.answer is None:
        return ""
    pieces, position = [], 0
    for mention in sorted(reply.answer.mentions, key=lambda one: one.span):
        end = max(mention.span[1], position)
        pieces.append(reply.answer.text[position:end])
        if with_boxes:
            pieces += [f" [{', '.join(f'{value:.3f}' for value in box.normalized)}]" for box in mention.boxes]
        position = end
    return "".join([*pieces, reply.answer.text[position:]])


def matched(predicted: Sequence[BoxNumbers], wanted: Sequence[BoxNumbers]) -> int:
    """Pairs of IoU >= 0.5, each box in at most one, the best pairs first.

    >>> matched([(0, 0, 1, 1), (0, 0, 1, 1)], [(0, 0, 1, 1)])
    1
    """
    pairs = sorted(
        (
            (-intersection_over_union(one, other), i, j)
            for i, one in enumerate(predicted[:200])
            for j, other in enumerate(wanted)
        ),
    )
    used: set[tuple[str, int]] = set()
    count = 0
    for overlap, i, j in pairs:
        if overlap <= -0.5 and not {("p", i), ("w", j)} & used:
            used |= {("p", i), ("w", j)}
            count += 1
    return count


def score_open(
    asked: Sequence[Open],
    replies: Replies,
    judge: Judge | None,
    judge_prompts: Mapping[str, str],
    *,
    grounding: frozenset[str] = frozenset(),
    judged_rule: Rule = "strict",
) -> Score:
    """Figures by category, with a judge and without.

    Args:
        asked: what was asked.
        replies: to it.
        judge: None for the figures without one only.
        judge_prompts: by category; a category without one gets ours.
        grounding: categories whose judge is told the reply's boxes.
        judged_rule: under which the judge's figures stand.
    """
    said = {one.question.id: replies.get(one.question.id, Reply(None)) for one in asked}
    figures: list[Figure] = []
    notes: list[str] = []
    for category in dict.fromkeys(one.category for one in asked):
        chosen = [one for one in asked if one.category == category]
        if judge is not None:
            prompt = judge_prompts.get(category, PROMPT)
            told = {
                one.question.id: told_to_judge(said[one.question.id], category in grounding) for one in chosen
            }
            verdicts = [
                Verdict(failure="no reply to rate")
                if not told[one.question.id].strip()
                else judge.rate(one.context, one.asked, one.reference, told[one.question.id], prompt)
                for one in chosen
            ]
            figures.append(_judged(category, chosen, verdicts, judged_rule))
            notes += _failures(category, verdicts)
        figures += _unjudged(category, chosen, said)
    cases = tuple(
        Case(
            *(one.question.id, one.question.picture, one.asked),
            rouge_l(tokenize(said[one.question.id].text), [tokenize(one.reference)]),
            *(said[one.question.id].text, one.reference, tuple(said[one.question.id].boxes)),
            tuple(one.boxes),
        )
        for one in asked
    )
    valid = sum(bool(reply.text.strip()) for reply in said.values())
    return Score(tuple(figures), (valid, len(asked)), cases, (), tuple(notes))


def _judged(category: str, asked: Sequence[Open], verdicts: Sequence[Verdict], rule: Rule) -> Figure:
    rated = [(one, v) for one, v in zip(asked, verdicts, strict=True) if v.failure is None]
    pictures = [one.question.picture for one, _ in rated]
    sums = sum_by_picture(pictures, [(v.model, v.reference) for _, v in rated])
    return Figure(
        f"judge, {category}: model / reference x 100",
        rule,
        estimate(sums, lambda rows: 100 * divide(rows[..., 0], rows[..., 1]), len(rated)),
        "points",
    )


def _failures(category: str, verdicts: Sequence[Verdict]) -> list[str]:
    failures = [one.failure for one in verdicts if one.failure]
    if not failures:
        return []
    return [
        f"{category}: {len(failures)} of {len(verdicts)} were not rated and are not in the mean; the first "
        f"because: {failures[0]}."
    ]


def _unjudged(category: str, asked: Sequence[Open], said: Mapping[str, Reply]) -> list[Figure]:
    pictures = [one.question.picture for one in asked]
    texts = [tokenize(said[one.question.id].text) for one in asked]
    overlap = [
        rouge_l(text, [tokenize(_BOX.sub("", one.reference))]) for one, text in zip(asked, texts, strict=True)
    ]
    figures = [Figure(f"ROUGE-L, {category}", "strict", accuracy(pictures, overlap))]
    boxed = [one for one in asked if one.boxes]
    if boxed:
        rows = [
            (
                matched(said[one.question.id].boxes, one.boxes),
                len(said[one.question.id].boxes),
                len(one.boxes),
            )
            for one in boxed
        ]
        sums = sum_by_picture([one.question.picture for one in boxed], rows)
        figures.append(Figure(f"box F1@0.5, {category}", "strict", estimate(sums, _f1, len(boxed))))
    return figures


def _f1(sums: FloatArray) -> FloatArray:
    return divide(2 * sums[..., 0], sums[..., 1] + sums[..., 2])
