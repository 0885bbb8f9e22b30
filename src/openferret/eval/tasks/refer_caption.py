"""What is at a region? Flickr30k Entities: boxes that are their entity's only one, pointed at in three ways.

Right if the answer's head noun is the head of a phrase that names the region; exact if the whole phrase is
one of these, but for case, punctuation and a leading article; CIDEr-D against all of them. A region counts once; for
"each phrase" it counts as often as captions name it, so that what everybody mentions weighs more than what one does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openferret import prompts
from openferret.eval.metrics.bootstrap import accuracy
from openferret.eval.metrics.boxes import BoxNumbers
from openferret.eval.metrics.captions import Cider, tokenize
from openferret.eval.pointing import KINDS, Kind, seed_of, spot_in_box
from openferret.eval.questions import Question, Replies, Reply
from openferret.eval.scores import Benchmark, Case, Figure, Score
from openferret.eval.tasks.entities import Picture, picture_files, read_pictures, single_regions
from openferret.nouns import head_noun

VERSION = 3
QUESTION = prompts.REFER.format(region="[0]")
_ARTICLES = frozenset({"a", "an", "the"})


@dataclass(frozen=True)
class _Region:
    question: Question
    kind: Kind
    box: BoxNumbers
    phrases: tuple[str, ...]
    number: int

    @property
    def heads(self) -> set[str]:
        return {head for phrase in self.phrases if (head := head_noun(phrase))}


def load(root: Path, images: Path, split_file: Path) -> Benchmark:
    """Reads the split."""
    pictures = read_pictures(root, split_file)
    regions: dict[str, _Region] = {}
    for picture in pictures:
        _add_regions(picture, regions)
    truth = list(regions.values())

    def score(asked: Sequence[Question], replies: Replies) -> Score:
        return _score([regions[one.id] for one in asked], truth, replies)

    return Benchmark(
        "refer-caption",
        VERSION,
        {"question": QUESTION},
        tuple(one.question for one in truth),
        picture_files(images, pictures),
        score,
    )


def _add_regions(picture: Picture, regions: dict[str, _Region]) -> None:
    named = [
        (box, phrases)
        for box, phrases in single_regions(picture)
        if any(head_noun(phrase) for phrase in phrases)
    ]
    first = len(regions) // len(KINDS)
    for kind in KINDS:
        for index, (box, phrases) in enumerate(named):
            spot = spot_in_box(box, kind, seed_of(picture.name, index))
            name = f"{picture.name} {index} {kind}"
            question = Question(name, picture.name, "ask", QUESTION, spots=(spot,))
            regions[name] = _Region(question, kind, box, phrases, first + index)


def _score(asked: Sequence[_Region], truth: Sequence[_Region], replies: Replies) -> Score:
    references: dict[int, tuple[str, ...]] = {one.number: one.phrases for one in truth}
    cider = Cider([[tokenize(phrase) for phrase in phrases] for phrases in references.values()])
    figures = []
    cases = []
    for kind in KINDS:
        chosen = [one for one in asked if one.kind == kind]
        texts = [replies.get(one.question.id, Reply(None)).text for one in chosen]
        pictures = [one.question.picture for one in chosen]
        heads = [head_noun(text) in one.heads for one, text in zip(chosen, texts, strict=True)]
        exact = [_bare(text) in map(_bare, one.phrases) for one, text in zip(chosen, texts, strict=True)]
        consensus = [
            100 * cider.cider_d(tokenize(text), one.number) for one, text in zip(chosen, texts, strict=True)
        ]
        mentions = [
            (picture, hit)
            for one, picture, hit in zip(chosen, pictures, heads, strict=True)
            for phrase in one.phrases
            if head_noun(phrase)
        ]
        each = accuracy([picture for picture, _ in mentions], [hit for _, hit in mentions])
        figures += [
            Figure(f"head noun, {kind}", "strict", accuracy(pictures, heads)),
            Figure(f"head noun, {kind}, each phrase", "strict", each),
            Figure(f"exact, {kind}", "strict", accuracy(pictures, exact)),
            Figure(f"CIDEr-D, {kind}", "strict", accuracy(pictures, consensus), "points"),
        ]
        cases += [
            Case(
                *(one.question.id, one.question.picture, kind, float(hit), text),
                "; ".join(dict.fromkeys(one.phrases)),
                truth=(one.box,),
            )
            for one, text, hit in zip(chosen, texts, heads, strict=True)
        ]
    boxes = [one for one in asked if one.kind == KINDS[0]]
    counted = Counter(head for one in boxes for head in one.heads)
    if counted:
        most = counted.most_common(1)[0][0]
        hits = [most in one.heads for one in boxes]
        guess = accuracy([one.question.picture for one in boxes], hits)
        figures.append(Figure(f'head noun, of always saying "{most}"', "baseline", guess))
    valid = sum(bool(replies.get(one.question.id, Reply(None)).text.strip()) for one in asked)
    notes = ("There is no published protocol: all figures are ours.",)
    return Score(tuple(figures), (valid, len(asked)), tuple(cases), (), notes)


def _bare(text: str) -> tuple[str, ...]:
    words = tokenize(text)
    return tuple(words[1:] if words and words[0] in _ARTICLES else words)
