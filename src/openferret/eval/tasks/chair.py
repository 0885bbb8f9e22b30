"""Objects in captions that are not on the picture, on COCO's 80 classes (CHAIR).

`official` takes for there what is annotated and what the reference captions name, as the paper does; `strict`
only what is annotated, which COCO does exhaustively.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from openferret import prompts
from openferret.errors import InputError
from openferret.eval.files import read_text
from openferret.eval.metrics.bootstrap import estimate, ratio, sum_by_picture
from openferret.eval.metrics.hallucination import objects_named, own_synonyms, read_synonyms
from openferret.eval.questions import Question, Replies, Reply
from openferret.eval.scores import Benchmark, Case, Figure, Rule, Score
from openferret.eval.tasks import coco

VERSION = 2


def load(
    images: Path,
    annotations: Path,
    captions: Path | None = None,
    synonyms: Path | None = None,
    only: Path | None = None,
) -> Benchmark:
    """Reads COCO's instances, captions if given, and CHAIR's `synonyms.txt` if given."""
    data = coco.read_coco(annotations, only)
    table = read_synonyms(read_text(synonyms)) if synonyms else own_synonyms()
    names = {one.id: one.name.lower() for one in data.classes.values()}
    unknown = set(names.values()) - set(table.values())
    if unknown:
        raise InputError(
            f"{annotations}: the class {min(unknown)!r} has no line in the synonyms; give --synonyms FILE"
        )
    annotated = {key: {names[one] for one in classes} for key, classes in data.classes_on().items()}
    said = coco.read_captions(captions) if captions else {}
    named = {
        key: classes.union(*(objects_named(one, table) for one in said.get(key, ())))
        for key, classes in annotated.items()
    }
    questions = tuple(
        Question(key, key, "describe", prompts.DESCRIBE) for key in data.pictures if key in data.asked
    )

    def score(asked: Sequence[Question], replies: Replies) -> Score:
        texts = {one.id: replies.get(one.id, Reply(None)).text for one in asked}
        found = {key: objects_named(text, table) for key, text in texts.items()}
        figures: list[Figure] = []
        truths: tuple[tuple[Rule, dict[str, set[str]]], ...] = (("official", named), ("strict", annotated))
        for rule, truth in truths:
            figures += _figures(rule, found, truth)
        cases = tuple(
            Case(
                *(key, key, "Describe the picture.", _clean_share(found[key], annotated[key]), text),
                ", ".join(sorted(annotated[key])),
            )
            for key, text in texts.items()
        )
        return Score(tuple(figures), (sum(bool(text.strip()) for text in texts.values()), len(asked)), cases)

    source = "CHAIR's own synonyms" if synonyms else "our own list of synonyms, not CHAIR's"
    without = "" if captions else " No reference captions were given: official and strict are the same."
    return Benchmark(
        "chair",
        VERSION,
        {"question": prompts.DESCRIBE},
        questions,
        coco.picture_files(images, data.pictures.values()),
        score,
        (*data.notes(), f"Objects are found by {source}.{without}"),
    )


def _figures(rule: Rule, found: dict[str, list[str]], truth: dict[str, set[str]]) -> list[Figure]:
    pictures = list(found)
    mentions: list[tuple[float, float]] = []
    sentences: list[tuple[float, float]] = []
    covered: list[tuple[float, float]] = []
    for key, objects in found.items():
        wrong = sum(one not in truth[key] for one in objects)
        mentions.append((wrong, len(objects)))
        sentences.append((bool(wrong), 1))
        covered.append((len(truth[key] & set(objects)), len(truth[key])))
    named: dict[str, list[tuple[float, float]]] = {
        "CHAIR_i, share of named objects": mentions,
        "CHAIR_s, share of captions": sentences,
        "coverage, share of objects there that are named": covered,
    }
    return [
        Figure(name, rule, estimate(sum_by_picture(pictures, rows), ratio, len(rows)))
        for name, rows in named.items()
    ]


def _clean_share(objects: Sequence[str], there: set[str]) -> float:
    return sum(one in there for one in objects) / len(objects) if objects else 0.0
