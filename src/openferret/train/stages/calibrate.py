"""Makes Kit's scores mean what they say, and writes the fit into the adapter.

    python -m openferret.train.stages.calibrate --data DIR --adapter src/openferret/kit/adapter.safetensors

On dev (300 train pictures that are never trained on), logistic fits of four events: the box round a phrase is
right; an instance's box is right (IoU >= 0.5 with any box of the phrase); the phrase is in the picture at all, by
what is said to "Where is ...?" and to "Is there ...?" (against as many phrases of other pictures; and, with the same
weight, COCO's classes on train pictures, or those that a detector has seen on dev), with what the namer sees and, for
nouns that it does not know, without. Beside them it writes in which forms the other train pictures' phrases say the
namer's nouns.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from openferret import Ferret, prompts
from openferret.flickr30k import development_names, read_entities
from openferret.generation.locating import find_phrases, phrase_ids
from openferret.generation.prefix import Continuation
from openferret.generation.presence import PRESENCE_THRESHOLD, log_odds, seen_on
from openferret.generation.questions import write_question
from openferret.kit.assemble import assemble
from openferret.kit.conversion import language_model, vision_model
from openferret.model.locator import pairwise_iou
from openferret.model.pictures import EncodedPictures
from openferret.scene import Scene
from openferret.train.stages.detected import Companions, read_detections, with_detections
from openferret.train.stages.dialogues import Writer
from openferret.train.stages.noun_forms import count_forms
from openferret.train.stages.pictures import WHOLE, coco_records, flickr_record
from openferret.train.stages.states import plain_errors
from openferret.train.stages.trunk import KIT_SAMPLER


@dataclass
class Evidence:
    """Rows of features, and whether what they speak for was right."""

    features: list[list[float]] = field(default_factory=list)
    right: list[float] = field(default_factory=list)

    def add(self, features: list[float], right: float | bool) -> None:
        """One more case."""
        self.features.append(features)
        self.right.append(float(right))


Found: TypeAlias = dict[str, Evidence]
CERTAIN = 0.2
"""Least score of a detected class that is taken for the truth."""
PRESENCE = ("presence", "exists", "seen_presence", "seen_exists")


def fit_logistic(evidence: Evidence) -> tuple[float, ...]:
    """Weights and constant of the maximum-likelihood fit, lightly held near 0.

    Example:
        >>> evidence = Evidence([[-2.0], [2.0]] * 50, [0.0, 1.0] * 49 + [1.0, 0.0])
        >>> fit_logistic(evidence)[0] > 1
        True
    """
    features = functional.pad(torch.tensor(evidence.features, dtype=torch.float64), (0, 1), value=1.0)
    right = torch.tensor(evidence.right, dtype=torch.float64)
    weights = torch.zeros(features.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(features @ weights, right)
        loss = loss + 1e-4 * weights.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return tuple(round(one, 4) for one in weights.tolist())


def told_apart(evidence: Evidence, fitted: tuple[float, ...], threshold: float) -> tuple[float, float]:
    """Share of the right cases that a fit gives at least `threshold`, and of the others that it gives less.

    Example:
        >>> told_apart(Evidence([[-2.0], [0.5], [2.0]], [0.0, 0.0, 1.0]), (1.0, 0.0), 0.5)
        (1.0, 0.5)
    """
    *weights, constant = fitted
    logits = np.array(evidence.features) @ np.array(weights) + constant
    above, right = 1 / (1 + np.exp(-logits)) >= threshold, np.array(evidence.right) > 0.5
    return float(above[right].mean()), float(1 - above[~right].mean())


def add_presence(ferret: Ferret, scene: Scene, phrases: list[str], there: list[bool], found: Found) -> None:
    """What is known of phrases after "Where is ...?" and "Is there ...?", and whether they are there."""
    model, processor, prefix = ferret.loaded.model, ferret.loaded.processor, scene.prefix
    yes, no, nowhere = (processor.tokenize(text)[0] for text in (prompts.YES, prompts.NO, prompts.ABSENT))
    located = find_phrases(model, prefix.encoded, [phrase_ids(processor, one) for one in phrases])
    seen = [seen_on(prefix.encoded, model.config.nouns, one) for one in phrases]
    for event, template, (first, second) in (
        ("presence", prompts.GROUND, (model.config.phrase_token_id, nowhere)),
        ("exists", prompts.EXISTS_IN_IMAGE, (yes, no)),
    ):
        size = (scene.width, scene.height)
        questions = [write_question(processor, template.format(phrase=one), [], size).ids for one in phrases]
        said = Continuation(model, processor, prefix, len(questions)).append(questions)
        for row, one, noun, true in zip(said, located, seen, there, strict=True):
            features = [float(row[first] - row[second]), log_odds(one.presence)]
            found[event].add(features, true)
            if noun is not None:
                found[f"seen_{event}"].add([*features, log_odds(noun)], true)


def gather_classes(ferret: Ferret, data: Path, pictures: int = 60, most: int = 3) -> Found:
    """The same of COCO's classes on train pictures: there, absent at random, and absent though frequent.

    The locator has seen these pictures, so this side is too sure; without it, what is right for the phrases of
    captions says "no" to most class names.
    """
    found: Found = {name: Evidence() for name in PRESENCE}
    if not (data / "instances_train2017.json").is_file():
        return found
    records, files = coco_records(data / "instances_train2017.json", 0)
    frequent = [name for name, _ in Counter(one.text for r in records for one in r.named).most_common()]
    generator = np.random.default_rng(0)
    for chosen in generator.permutation(len(records))[:pictures]:
        record = records[chosen]
        present = list(dict.fromkeys(one.text for one in record.named))
        shown = present[:most]
        others = [name for name in frequent if name not in present]
        at_random = [others[k] for k in generator.permutation(len(others))[: len(shown)]]
        absent = (at_random + others[: len(shown)])[::2]
        scene = ferret.encode(data / "train2017" / files[chosen])
        there = [True] * len(shown) + [False] * len(absent)
        add_presence(ferret, scene, shown + absent, there, found)
    return found


def gather_detected(ferret: Ferret, data: Path, detected: Path, most: int = 3) -> Found:
    """The same of a detector's classes on dev, which no stage has seen: those it is sure of, and as many absent ones.

    Half of the absent ones are often seen beside what is there.
    """
    seen = read_detections(detected)
    classes = sorted({one.name for found in seen.values() for one in found})
    kept_back = sorted(development_names((data / "train.txt").read_text().split()))
    found: Found = {name: Evidence() for name in PRESENCE}
    records = [
        with_detections(record, seen.get(record.name, ()), classes)
        for record in (flickr_record(row, one) for row, one in enumerate(read_entities(data, kept_back)))
    ]
    companions, generator = Companions.of(records), np.random.default_rng(0)
    for name, record in zip(kept_back, records, strict=True):
        there = list(
            dict.fromkeys(one.text for one in record.named if one.detected >= CERTAIN and len(one.boxes) == 1)
        )
        shown = [there[k] for k in generator.permutation(len(there))[:most]]
        absent = {one for _ in shown if (one := companions.absent(record, generator)) is not None}
        if shown and absent:
            scene = ferret.encode(data / "flickr30k-images" / f"{name}.jpg")
            asked = [*shown, *sorted(absent)]
            add_presence(ferret, scene, asked, [True] * len(shown) + [False] * len(absent), found)
    return found


def gather(ferret: Ferret, data: Path, most: int = 6) -> Found:
    """What an uncalibrated model says of dev's phrases, and what is true."""
    names = (data / "train.txt").read_text().split()
    kept_back = sorted(development_names(names))
    records = [flickr_record(row, one) for row, one in enumerate(read_entities(data, kept_back))]
    model, processor = ferret.loaded.model, ferret.loaded.processor
    found: Found = {name: Evidence() for name in ("hull", "instance", *PRESENCE)}
    for number, (name, record) in enumerate(zip(kept_back, records, strict=True)):
        writer = Writer(record, WHOLE, records, KIT_SAMPLER.points, np.random.default_rng(number))
        shown = [writer.shown[k] for k in writer.generator.permutation(len(writer.shown))[:most]]
        absent = [phrase for _ in shown if (phrase := writer.absent())]
        if not shown:
            continue
        scene = ferret.encode(data / "flickr30k-images" / f"{name}.jpg")
        phrases = [one.text for one in shown] + absent
        encoded = scene.prefix.encoded
        there = [True] * len(shown) + [False] * len(absent)
        add_presence(ferret, scene, phrases, there, found)
        ids = [processor.tokenize(one.text) for one in shown]
        for one, hull, whole in zip(
            shown,
            find_phrases(model, encoded, ids, merged=True),
            _agreements(ferret, encoded, ids),
            strict=True,
        ):
            truth = torch.tensor(one.boxes)
            around = torch.cat([truth[:, :2].amin(0), truth[:, 2:].amax(0)])[None]
            overlap = float(pairwise_iou(torch.tensor(hull.boxes), around))
            found["hull"].add([log_odds(hull.presence), log_odds(whole)], overlap >= 0.5)
        for one, each in zip(shown, find_phrases(model, encoded, ids), strict=True):
            overlaps = pairwise_iou(torch.tensor(each.boxes), torch.tensor(one.boxes)).amax(-1)
            for score, overlap in zip(each.scores, overlaps.tolist(), strict=True):
                found["instance"].add([log_odds(score)], overlap >= 0.5)
    return found


def said_forms(data: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """`count_forms` of what names one box each on the train pictures, but for dev's."""
    names = (data / "train.txt").read_text().split()
    kept_back = development_names(names)
    pictures = read_entities(data, [name for name in names if name not in kept_back])
    records = (flickr_record(row, one) for row, one in enumerate(pictures))
    return count_forms(one.text for record in records for one in record.named if len(one.boxes) == 1)


def _agreements(ferret: Ferret, encoded: EncodedPictures, ids: list[list[int]]) -> list[float]:
    length = max(len(one) for one in ids)
    padded = torch.tensor([one + [0] * (length - len(one)) for one in ids])
    mask = torch.tensor([[k < len(one) for k in range(length)] for one in ids])
    picture = torch.zeros(len(ids), dtype=torch.long)
    with torch.no_grad():
        located = ferret.loaded.model.model.locate(encoded, padded, mask, picture, picture == 0)
    agreement: list[float] = located.agreement.tolist()
    return agreement


@plain_errors
def main() -> None:
    """Fits on dev and rewrites the adapter's metadata."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--adapter", type=Path, required=True)
    parser.add_argument(
        "--detected", type=Path, help="what run_detector saw: its classes on dev, not COCO's pictures"
    )
    options = parser.parse_args()
    with safe_open(options.adapter, framework="pt") as file:
        metadata: dict[str, str] = dict(file.metadata() or {})
    tensors = load_file(options.adapter)
    metadata.pop("calibration", None)
    with tempfile.TemporaryDirectory() as folder:
        plain, kit = Path(folder) / "adapter.safetensors", Path(folder) / "kit"
        save_file(tensors, plain, metadata=metadata)
        assemble(language_model(), vision_model(), plain, kit)
        ferret = Ferret.load(kit)
        evidence = gather(ferret, options.data)
        captions = {name: Evidence([*one.features], [*one.right]) for name, one in evidence.items()}
        if options.detected is None:
            asked = gather_classes(ferret, options.data)
        else:
            asked = gather_detected(ferret, options.data, options.detected)
        for name, classes in asked.items():
            # Classes weigh as much as the phrases of captions, though there are fewer.
            for _ in range(len(evidence[name].right) // max(len(classes.right), 1)):
                evidence[name].features.extend(classes.features)
                evidence[name].right.extend(classes.right)
    fitted = {f"{name}_calibration": fit_logistic(one) for name, one in evidence.items()}
    for name, one in evidence.items():
        fit = fitted[f"{name}_calibration"]
        print(name, len(one.right), round(float(np.mean(one.right)), 3), fit)
        if name in PRESENCE:
            for threshold in (PRESENCE_THRESHOLD, 0.5):
                there, absent = told_apart(captions[name], fit, threshold)
                print(f"  at {threshold}: {there:.3f} of dev's are found, {absent:.3f} of the others are not")
    nouns = set(metadata.get("nouns", "").split())
    forms = {noun: said for noun, said in said_forms(options.data).items() if noun in nouns}
    found = {"calibration": json.dumps(fitted), "noun_forms": json.dumps(forms)}
    save_file(tensors, options.adapter, metadata=metadata | found)


if __name__ == "__main__":
    main()
