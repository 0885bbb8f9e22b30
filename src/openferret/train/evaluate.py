"""Kit's figures on Flickr30k Entities, through the same predictor that users hold, beside two baselines.

    python -m openferret.train.evaluate --data DIR --split val.txt --out figures.json

R@1: one phrase a question, merged boxes, right at IoU >= 0.5, over every phrase with boxes of every caption;
baseline: the fixed box [0.1, 0.1, 0.9, 0.9]. Head noun: a region with one box is pointed at with a box, a
point and a scribble; the answer is right if its head noun is the head of a phrase that names the region;
baseline: always the most frequent head of the split.
Intervals: 95 %, bootstrap by picture.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.progress import track

from openferret.errors import InputError
from openferret.regions import Box, Point, Region, Scribble
from openferret.train.flickr30k import EntitiesPicture, NormalizedBox, read_entities
from openferret.train.phrases import head_noun
from openferret.train.regions import KINDS, Kind

if TYPE_CHECKING:
    from openferret.predictor import Ferret, Scene

FIXED_BOX = (0.1, 0.1, 0.9, 0.9)


@dataclass(frozen=True)
class Outcome:
    """One question's result: the picture it belongs to, its measure, whether it was right."""

    picture: str
    measure: str
    right: bool


def intersection_over_union(first: Sequence[float], second: Sequence[float]) -> float:
    """IoU of two boxes (x1, y1, x2, y2).

    Example:
        >>> intersection_over_union((0, 0, 1, 1), (0, 0, 1, 2))
        0.5
    """
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    overlap = max(width, 0.0) * max(height, 0.0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return overlap / (areas - overlap) if areas > overlap else 0.0


def grounding_outcomes(scene: Scene, picture: EntitiesPicture) -> list[Outcome]:
    """Every phrase with boxes; the same words are asked once, and count as often as they were said."""
    phrases = [phrase for caption in picture.captions for phrase in caption.phrases if phrase.boxes]
    words = sorted({phrase.text.lower() for phrase in phrases})
    # Each is a question of its own; they only share the picture and a batch.
    mentions = scene.ground(words, merge=True, threshold=0.0).mentions if words else ()
    found: dict[str, Sequence[float] | None] = {
        word: mention.boxes[0].normalized if mention.boxes else None
        for word, mention in zip(words, mentions, strict=True)
    }
    outcomes = []
    for phrase in phrases:
        box = found[phrase.text.lower()]
        right = box is not None and intersection_over_union(box, phrase.hull) >= 0.5
        fixed = intersection_over_union(FIXED_BOX, phrase.hull) >= 0.5
        size = "small" if area(phrase.hull) < 0.05 else "medium" if area(phrase.hull) < 0.25 else "large"
        measures = ("R@1", f"R@1 {phrase.kind}", f"R@1 {size}")
        outcomes += [Outcome(picture.name, measure, right) for measure in measures]
        outcomes.append(Outcome(picture.name, "R@1 of the fixed box", fixed))
    return outcomes


def area(box: NormalizedBox) -> float:
    """Share of the picture that a box covers."""
    return (box[2] - box[0]) * (box[3] - box[1])


def single_regions(picture: EntitiesPicture) -> dict[NormalizedBox, set[str]]:
    """Boxes that are their entity's only one, and the head nouns they are called by."""
    heads: dict[NormalizedBox, set[str]] = {}
    for caption in picture.captions:
        for phrase in caption.phrases:
            if len(phrase.boxes) == 1 and head_noun(phrase.text):
                heads.setdefault(phrase.boxes[0], set()).add(head_noun(phrase.text))
    return heads


def pointed_at(box: NormalizedBox, kind: Kind, width: int, height: int, seed: int) -> Region:
    """A region of the wanted kind that means what is in the box, in pixels."""
    if kind == "box":
        return Box(box[0] * width, box[1] * height, box[2] * width, box[3] * height)
    generator = np.random.default_rng(seed)
    low, side = np.array(box[:2]), np.array(box[2:]) - np.array(box[:2])
    spread, count = (0.15, 1) if kind == "point" else (0.2, 4)
    inside = low + side * np.clip(generator.normal(0.5, spread, (count, 2)), 0.1, 0.9)
    pixels = [(float(x) * width, float(y) * height) for x, y in inside]
    return Point(*pixels[0]) if kind == "point" else Scribble(tuple(pixels))


def refer_outcomes(scene: Scene, picture: EntitiesPicture, most_frequent: str) -> list[Outcome]:
    """Each region, by box, point and scribble."""
    regions = single_regions(picture)
    outcomes = [
        Outcome(picture.name, "head of the baseline", most_frequent in heads) for heads in regions.values()
    ]
    for kind in KINDS:
        asked = [
            pointed_at(box, kind, scene.width, scene.height, zlib.crc32(f"{picture.name} {number}".encode()))
            for number, box in enumerate(regions)
        ]
        for answer, heads in zip(scene.refer_many(asked), regions.values(), strict=True):
            outcomes.append(Outcome(picture.name, f"head by {kind}", head_noun(answer.text) in heads))
    return outcomes


def summarize(outcomes: Sequence[Outcome], draws: int = 1000) -> dict[str, dict[str, float]]:
    """Share of right answers for each measure, with its 95 % interval by picture."""
    summary = {}
    generator = np.random.default_rng(0)
    for measure in sorted({one.measure for one in outcomes}):
        tally: dict[str, list[int]] = {}
        for one in outcomes:
            if one.measure == measure:
                pair = tally.setdefault(one.picture, [0, 0])
                pair[0] += one.right
                pair[1] += 1
        counts = np.array(list(tally.values()))
        drawn = counts[generator.integers(0, len(counts), (draws, len(counts)))].sum(1)
        low, high = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
        right, total = counts.sum(0)
        summary[measure] = {
            "value": round(float(right / total), 4),
            "low": round(float(low), 4),
            "high": round(float(high), 4),
            "n": int(total),
        }
    return summary


def evaluate(ferret: Ferret, data: Path, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """All figures on the named pictures."""
    pictures = list(read_entities(data, list(names)))
    heads = Counter(
        head for picture in pictures for found in single_regions(picture).values() for head in found
    )
    if not heads:
        raise InputError("None of these pictures has a phrase with a box.")
    most_frequent = heads.most_common(1)[0][0]
    outcomes: list[Outcome] = []
    for picture in track(pictures, description="asking"):
        scene = ferret.encode(data / "flickr30k-images" / f"{picture.name}.jpg")
        outcomes += grounding_outcomes(scene, picture)
        outcomes += refer_outcomes(scene, picture, most_frequent)
    return summarize(outcomes)


def main() -> None:
    """Prints and writes the figures."""
    from openferret.predictor import Ferret

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val.txt")
    parser.add_argument("--model", default="kit")
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    names = (options.data / options.split).read_text().split()[: options.limit]
    figures = evaluate(Ferret.load(options.model), options.data, names)
    options.out.write_text(json.dumps(figures, indent=2) + "\n")
    for measure, figure in figures.items():
        interval = f"[{figure['low']:.3f}, {figure['high']:.3f}]"
        print(f"{measure:24} {figure['value']:.3f} {interval} n = {figure['n']}")


if __name__ == "__main__":
    main()
