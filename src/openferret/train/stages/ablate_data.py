"""What each part of the training data is worth: the paper's ablations of its data, at Kit's size, minutes each.

    python -m openferret.train.stages.ablate_data --data DIR --out ablation.json --steps 160

The same short stage T is run from ImageNet's trunk four times, from the same seed and on the same pictures in the same
order: with everything; without grounding (no phrase is looked for, no object proposed); without referring (no region is
named); and without hard negatives (a phrase that is absent from a COCO picture is any of its classes, rather than a
frequent one). Measured on dev with 95 % intervals by picture: phrases found (R@1), regions named (head noun), and, on
the COCO pictures kept back, whether a class is there, asked of the ten most frequent classes that are not.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from openferret.eval.metrics.bootstrap import Estimate, accuracy
from openferret.train.stages.devices import half_precision
from openferret.train.stages.pictures import WHOLE, Named, Record, crop_pixels
from openferret.train.stages.regions import KINDS
from openferret.train.stages.run_trunk import judge, load_records, new_optimizer, prepare_words, untrained
from openferret.train.stages.states import plain_errors
from openferret.train.stages.trunk import (
    WEIGHTS,
    TrunkModel,
    Words,
    compute_losses,
    noun_table,
    sample_batch,
)

GROUNDING = ("place", "cell", "box", "edge", "instance", "presence", "object", "object_box")
REFERRING = ("name", "word", "phrase")


@dataclass(frozen=True)
class Variant:
    """A training that lacks something.

    Attributes:
        name: in the table.
        dropped: losses that are left out.
        hard: absent classes are drawn as often as they occur.
    """

    name: str
    dropped: tuple[str, ...] = ()
    hard: bool = True


VARIANTS = (
    Variant("everything"),
    Variant("without grounding", dropped=GROUNDING),
    Variant("without referring", dropped=REFERRING),
    Variant("without hard negatives", hard=False),
)


def absent_classes(records: Sequence[Record], hard: bool) -> list[Named]:
    """The classes of COCO's records that a picture may be asked for, as often as each is to be asked.

    Example:
        >>> one = Named("a cat", "cat", ((0.0, 0.0, 1.0, 1.0),), False)
        >>> records = [Record(0, (one, one), frozenset({"cat"}), False)]
        >>> len(absent_classes(records, hard=True)), len(absent_classes(records, hard=False))
        (2, 1)
    """
    said = [one for record in records if not record.captions for one in record.named]
    return said if hard else list({one.text: one for one in said}.values())


def train(
    variant: Variant,
    model: TrunkModel,
    store: NDArray[np.uint8],
    records: Sequence[Record],
    words: Words,
    heads: list[str],
    steps: int,
    side: int,
) -> None:
    """A short stage T in place: 16 pictures a step, the rates and losses of `run_trunk`, no averaged weights."""
    index = {head: position for position, head in enumerate(heads)}
    nouns, classes = noun_table(words, heads), absent_classes(records, variant.hard)
    optimizer = new_optimizer(model)
    learned = [one for group in optimizer.param_groups for one in group["params"]]
    model.train()
    for step in range(steps):
        generator = np.random.default_rng([0, step])
        chosen = [records[one] for one in generator.choice(len(records), 16, replace=False)]
        batch = sample_batch(store, chosen, index, generator, side, classes=classes)
        losses = compute_losses(model, batch, words, nouns)
        kept = [WEIGHTS[name] * one for name, one in losses.items() if name not in variant.dropped]
        optimizer.zero_grad(set_to_none=True)
        torch.stack(kept).sum().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learned, 5.0)
        factor = min((step + 1) / 10, 1.0) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * factor
        optimizer.step()


@torch.no_grad()
def judge_presence(
    model: TrunkModel, store: NDArray[np.uint8], records: Sequence[Record], words: Words, side: int
) -> Estimate:
    """Whether classes are there: those that are, and as many of the ten most frequent that are not."""
    model.eval()
    texts = {one.head: one.text for record in records for one in record.named if len(one.boxes) == 1}
    counts = Counter(head for record in records for head in record.heads)
    frequent = [head for head, _ in counts.most_common() if head in texts]
    pictures: list[str] = []
    right: list[float] = []
    for record in records:
        there = sorted(head for head in record.heads if head in texts)
        missing = [head for head in frequent[:10] if head not in record.heads][: len(there)]
        asked = there[: len(missing)] + missing
        if not asked:
            continue
        with half_precision(torch.device("cpu")):
            seen = model.vision(crop_pixels(store, [record.row], [WHOLE], side))
            embeddings, mask = words.batch([texts[head].lower() for head in asked])
            located = model.locator(
                seen.feature_maps[-1],
                model.locator.phrase(embeddings, mask),
                torch.zeros(len(asked), dtype=torch.long),
                torch.ones(len(asked), dtype=torch.bool),
            )
        right += [
            float((logit > 0) == (head in record.heads))
            for head, logit in zip(asked, located.presence.tolist(), strict=True)
        ]
        pictures += [record.name] * len(asked)
    return accuracy(pictures, right)


@plain_errors
def main() -> None:
    """Trains and measures each variant; the figures are written as they come."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--side", type=int, default=192)
    parser.add_argument("--pictures", type=Path, help="where the pixels are kept; beside --out by default")
    options = parser.parse_args()
    kept = options.pictures or options.out.with_name("pictures.npy")
    store, records, dev, mini = load_records(options.data, kept)
    words, heads = prepare_words(records + dev + mini)
    figures: dict[str, object] = {
        "steps": options.steps,
        "side": options.side,
        "dev": len(dev),
        "mini": len(mini),
    }
    for variant in VARIANTS:
        torch.manual_seed(0)
        model = untrained(words, heads)
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        train(variant, model, store, records, words, heads, options.steps, options.side)
        outcomes = judge(model, store, dev, words, heads, options.side)
        found = {name: accuracy(*outcomes[name]) for name in ("recall", *KINDS)}
        found["presence"] = judge_presence(model, store, mini, words, options.side)
        figures[variant.name] = {
            name: {key: value for key, value in asdict(one).items() if key in ("value", "low", "high", "n")}
            for name, one in found.items()
        }
        print(variant.name, found, flush=True)
        options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
