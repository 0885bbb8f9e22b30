"""Phrase grounding on Flickr30k Entities: which box does a phrase of a caption mean?

Right at IoU >= 0.5. MERGED-BOXES: the truth is the hull of the phrase's boxes (the paper's headline);
ANY-BOX: any one of them. `official` asks for all phrases of a sentence at once, and a box counts for a phrase
if the text right before it is the phrase, in whole pixels; `strict` asks for one phrase a question.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from openferret.answer import Answer
from openferret.errors import InputError
from openferret.eval.metrics.bootstrap import accuracy
from openferret.eval.metrics.boxes import BoxNumbers, best_overlap, intersection_over_union, size_class
from openferret.eval.metrics.official import read_boxes, to_pixels
from openferret.eval.questions import Question, Replies, Reply
from openferret.eval.scores import Benchmark, Case, Figure, Rule, Score
from openferret.eval.tasks.entities import FIXED_BOX, Picture, Target, picture_files, read_pictures
from openferret.eval.tasks.phrases import PROMPTS, RANKS, Asked, ask_all

VERSION = 2
RULES = ("both", "official", "strict")
_TOP = (1, 5, 10, None)
# Whole pixels over a picture's size: an overlap of exactly a half comes out a rounding error below it.
_HALF = 0.5 - 1e-9


def load(root: Path, images: Path, split_file: Path, rules: str = "both") -> Benchmark:
    """Reads the split; `rules` chooses which questions are asked."""
    if rules not in RULES:
        raise InputError(f"--rules must be one of {', '.join(RULES)}, not {rules!r}")
    pictures = read_pictures(root, split_file)
    strict = {one.question.id: one for one in ask_all(pictures)} if rules != "official" else {}
    official = {} if rules == "strict" else _official_questions(pictures)
    by_picture: dict[str, list[Question]] = {one.name: [] for one in pictures}
    for asked in [*strict.values(), *official.values()]:
        by_picture[asked.question.picture].append(asked.question)

    sizes = {one.name: one.size for one in pictures}

    def score(asked: Sequence[Question], replies: Replies) -> Score:
        return _score(
            [strict[one.id] for one in asked if one.id in strict],
            [official[one.id] for one in asked if one.id in official],
            replies,
            sizes,
        )

    phrases = [phrase for one in pictures for sentence in one.sentences for phrase in sentence.phrases]
    bare = sum(not phrase.boxes for phrase in phrases)
    return Benchmark(
        "flickr30k-entities",
        VERSION,
        {**PROMPTS, "official": "ground: all phrases of a sentence, lower case, no commas; merged"},
        tuple(question for questions in by_picture.values() for question in questions),
        picture_files(images, pictures),
        score,
        (f"{bare} of {len(phrases)} phrases have no box and are not asked.",),
    )


def _official_questions(pictures: Sequence[Picture]) -> dict[str, Asked]:
    asked = {}
    for picture in pictures:
        for number, sentence in enumerate(picture.sentences):
            if sentence.targets:
                # The same words, however written, are asked for once.
                words = tuple({_letters(one.words): _spoken(one.words) for one in sentence.targets}.values())
                name = f"{picture.name}_{number}"
                question = Question(
                    name, picture.name, "ground", phrases=words, merge=True, forced=True, ranks=RANKS
                )
                asked[name] = Asked(question, sentence.targets)
    return asked


def _spoken(words: str) -> str:
    return " ".join(words.lower().replace(",", " ").split())


def _score(
    strict: Sequence[Asked],
    official: Sequence[Asked],
    replies: Replies,
    sizes: Mapping[str, tuple[float, float]],
) -> Score:
    figures: list[Figure] = []
    cases: list[Case] = []
    for rule, asked in (("official", official), ("strict", strict)):
        if asked:
            found = [
                (one, target, boxes)
                for one in asked
                for target, boxes in _candidates(
                    one, replies.get(one.question.id, Reply(None)), rule, sizes[one.question.picture]
                )
            ]
            figures += _recalls("official" if rule == "official" else "strict", found)
            if rule == "strict" or not strict:
                figures += _breakdown(found)
                cases = [_case(*one) for one in found]
    shown = strict or official
    valid = sum(bool(replies[one.question.id].boxes) for one in shown if one.question.id in replies)
    notes = (
        "R@5, R@10 and the upper bound are given where a model ranks its boxes, or writes several for a phrase.",
        "A phrase of two types counts for both. Sizes: below 5 % of the picture, below 25 %, more.",
    )
    return Score(tuple(figures), (valid, len(shown)), tuple(cases), (), notes)


Found = tuple[Asked, Target, list[BoxNumbers]]


def _candidates(
    asked: Asked, reply: Reply, rule: str, size: tuple[float, float]
) -> list[tuple[Target, list[BoxNumbers]]]:
    """Each target's boxes: ranked ones, or those of the answer in its order."""
    if rule == "strict":
        boxes = list(reply.ranked[0]) if reply.ranked else reply.boxes
        return [(target, boxes) for target in asked.targets]
    named = _named_boxes(reply, size)
    ranked = zip(asked.question.phrases, reply.ranked, strict=False)
    named |= {_letters(phrase): list(boxes) for phrase, boxes in ranked}
    return [(target, named.get(_letters(target.words), [])) for target in asked.targets]


def _named_boxes(reply: Reply, size: tuple[float, float]) -> dict[str, list[BoxNumbers]]:
    named: dict[str, list[BoxNumbers]] = {}
    if reply.ferret_words is not None:
        for phrase, box in read_boxes(reply.ferret_words) or ():
            width, height = size
            x1, y1, x2, y2 = to_pixels(box, int(width), int(height))
            fractions = x1 / width, y1 / height, x2 / width, y2 / height
            named.setdefault(_letters(phrase), []).append(fractions)
        return named
    mentions = reply.answer.mentions if isinstance(reply.answer, Answer) else ()
    for mention in mentions:
        boxes = named.setdefault(_letters(mention.phrase), [])
        boxes += [box.normalized for box in mention.boxes]
    return named


def _letters(words: str) -> str:
    return "".join(letter for letter in words.lower() if letter.isalnum())


def _recalls(rule: Rule, found: Sequence[Found]) -> list[Figure]:
    pictures = [asked.question.picture for asked, _, _ in found]
    merged = [_first_right(boxes, [target.hull]) for _, target, boxes in found]
    any_box = [_first_right(boxes, target.boxes) for _, target, boxes in found]
    figures = []
    several = any(len(boxes) > 1 for _, _, boxes in found)
    for top in _TOP:
        if top == 1 or several:
            name = "upper bound" if top is None else f"R@{top}"
            most = math.inf if top is None else top
            for protocol, places in (("merged boxes", merged), ("any box", any_box)):
                right = [place < most for place in places]
                figures.append(Figure(f"{name}, {protocol}", rule, accuracy(pictures, right)))
    return figures


def _first_right(boxes: Sequence[BoxNumbers], targets: Sequence[BoxNumbers]) -> float:
    """Place of the first box that is right, from 0; infinity if none is."""
    hits = (place for place, box in enumerate(boxes) if best_overlap([box], targets) >= _HALF)
    return next(hits, math.inf)


def _breakdown(found: Sequence[Found]) -> list[Figure]:
    rule: Rule = "strict"
    groups: dict[str, list[Found]] = {}
    for one in found:
        for kind in sorted(one[1].kinds):
            groups.setdefault(f"type {kind}", []).append(one)
        groups.setdefault(f"size {size_class(one[1].hull)}", []).append(one)
    figures = []
    for name in sorted(groups):
        members = groups[name]
        right = [best_overlap(boxes[:1], [target.hull]) >= _HALF for _, target, boxes in members]
        pictures = [asked.question.picture for asked, _, _ in members]
        figures.append(Figure(f"R@1, merged boxes, {name}", rule, accuracy(pictures, right)))
    fixed = [intersection_over_union(FIXED_BOX, target.hull) >= _HALF for _, target, _ in found]
    pictures = [asked.question.picture for asked, _, _ in found]
    figures.append(Figure("R@1, merged boxes, of the box 0.1 to 0.9", "baseline", accuracy(pictures, fixed)))
    return figures


def _case(asked: Asked, target: Target, boxes: Sequence[BoxNumbers]) -> Case:
    value = best_overlap(boxes[:1], [target.hull])
    said = "" if boxes else "no box"
    name = asked.question.picture
    return Case(asked.question.id, name, target.words, value, said, "", tuple(boxes[:1]), (target.hull,))
