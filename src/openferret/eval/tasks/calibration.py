"""Whether the scores of boxes mean what they say, on the strict questions of Flickr30k Entities.

The event is IoU >= 0.5 with the hull of the phrase's boxes. A predictions file of `flickr30k-entities` asked
with `--rules strict` can be scored here: the questions are the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from openferret.eval.metrics.bootstrap import accuracy, estimate, sum_by_picture
from openferret.eval.metrics.boxes import best_overlap
from openferret.eval.metrics.calibration import bin_counts, expected_calibration_error, reliability
from openferret.eval.questions import Replies, Reply
from openferret.eval.scores import Benchmark, Figure, Score
from openferret.eval.tasks.entities import picture_files, read_pictures
from openferret.eval.tasks.phrases import PROMPTS, Asked, ask_all

VERSION = 1


def load(root: Path, images: Path, split_file: Path) -> Benchmark:
    """Reads the split."""
    pictures = read_pictures(root, split_file)
    strict = {one.question.id: one for one in ask_all(pictures)}
    return Benchmark(
        "calibration",
        VERSION,
        PROMPTS,
        tuple(one.question for one in strict.values()),
        picture_files(images, pictures),
        lambda asked, replies: _score([strict[one.id] for one in asked], replies),
    )


def _score(asked: Sequence[Asked], replies: Replies) -> Score:
    pictures: list[str] = []
    scores: list[float] = []
    right: list[bool] = []
    scored = 0
    for one in asked:
        reply = replies.get(one.question.id, Reply(None))
        score = _first_score(reply)
        if score is None:
            continue
        scored += 1
        for target in one.targets:
            pictures.append(one.question.picture)
            scores.append(score)
            right.append(best_overlap(reply.boxes[:1], [target.hull]) >= 0.5)
    rows = [bin_counts(score, hit) for score, hit in zip(scores, right, strict=True)]
    counted = sum_by_picture(pictures, rows)
    figures = (
        Figure("ECE, 10 bins", "strict", estimate(counted, expected_calibration_error, len(rows))),
        Figure("mean score", "strict", accuracy(pictures, scores)),
        Figure("right at IoU 0.5", "strict", accuracy(pictures, right)),
    )
    notes = (
        "There is no published protocol: all figures are ours.",
        f"{len(asked) - scored} of {len(asked)} replies have no box with a score from 0 to 1 and are not in.",
    )
    return Score(figures, (scored, len(asked)), (), tuple(reliability(scores, right)), notes)


def _first_score(reply: Reply) -> float | None:
    score = next(iter(reply.scores), None)
    return score if score is not None and math.isfinite(score) and 0 <= score <= 1 else None
