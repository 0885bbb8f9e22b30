"""How a region is best told to a language model: the paper's ablation of its region representation, at Kit's size.

    python -m openferret.train.stages.ablate_regions --data DIR --trunk runs/trunk/state.pt --out regions.json

On one trained trunk that stays as it is, the same two-layer classifier names regions (head nouns) from: their
coordinates alone; the mean of the maps over their points; the spatial-aware sampler's vector; mean, maximum and the
picture's mean; and the last two together, which is what the namer reads. Figures are of dev, with 95 % intervals by
picture.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from openferret.eval.metrics.bootstrap import accuracy
from openferret.train.stages.pictures import Record
from openferret.train.stages.regions import KINDS
from openferret.train.stages.run_naming import NamedRegions, Scale, read_all
from openferret.train.stages.run_trunk import load_records, prepare_words
from openferret.train.stages.states import plain_errors
from openferret.train.stages.trunk import TrunkModel, noun_shares

HIDDEN = 640


def parts(channels: Sequence[int], sampled: int) -> dict[str, list[int]]:
    """Columns of each representation in a row of `openferret.model.namer.namer_features`.

    Args:
        channels: of each map.
        sampled: length of the sampler's vector.

    Example:
        >>> sorted(parts([2, 3], 4)["mean pooling, coordinates"])
        [0, 1, 6, 7, 8, 15, 16, 17, 18, 19, 20]
    """
    means: list[int] = []
    start = 0
    for width in channels:
        means += range(start, start + width)
        start += 3 * width
    bounds = [*range(start, start + 6)]
    vector = [*range(start + 6, start + 6 + sampled)]
    everything = [*range(start + 6)]
    return {
        "coordinates only": bounds,
        "mean pooling, coordinates": means + bounds,
        "sampler, coordinates": vector + bounds,
        "mean, maximum and picture, coordinates": everything,
        "all of these": everything + vector,
    }


def train_head(regions: NamedRegions, columns: list[int], nouns: int, passes: int) -> tuple[nn.Module, Scale]:
    """A classifier of the nouns from some columns of the features; it is given scaled features."""
    features = regions.features[:, columns]
    scale = Scale.of(features)
    torch.manual_seed(0)
    head = nn.Sequential(
        nn.Dropout(0.3), nn.Linear(len(columns), HIDDEN), nn.GELU(), nn.Dropout(0.5), nn.Linear(HIDDEN, nouns)
    )
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.05)
    generator, batch = np.random.default_rng(0), 512
    steps = len(features) // batch
    for epoch in range(passes):
        order = generator.permutation(len(features))
        for step in range(steps):
            chosen = order[step * batch : (step + 1) * batch]
            read = (features[torch.from_numpy(chosen)].float() - scale.mean) / scale.deviation
            target = noun_shares([regions.mentions[one] for one in chosen], nouns)
            loss = functional.cross_entropy(head(read), target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            share = (epoch + step / steps) / passes
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * (1 + np.cos(np.pi * share)) / 2
            optimizer.step()
    return head.eval(), scale


@plain_errors
def main() -> None:
    """Reads the pictures once, trains a head for each representation, prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--trunk", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--pictures", type=int, default=2500, help="of the training pictures, drawn by a seed"
    )
    parser.add_argument("--passes", type=int, default=4)
    parser.add_argument("--side", type=int, default=320)
    options = parser.parse_args()
    store, train, dev, mini = load_records(options.data, options.trunk.parent / "pictures.npy")
    words, heads = prepare_words(train + dev + mini)
    train = list({record.row: record for record in train}.values())
    chosen = np.random.default_rng(0).permutation(len(train))[: options.pictures]
    model = TrunkModel(words.table.shape[1], len(heads))
    model.load_state_dict(torch.load(options.trunk, weights_only=True)["average"])
    model = model.to(memory_format=torch.channels_last).requires_grad_(False)  # type: ignore[call-overload]
    nouns = {head: number for number, head in enumerate(heads)}

    known = read_all(model, store, [train[one] for one in chosen], nouns, options.side)
    asked = read_all(model, store, dev, nouns, options.side, alone=True)
    rows: dict[int, Record] = {record.row: record for record in dev}
    accepted = [set(one) for one in asked.mentions]
    figures: dict[str, object] = {
        "pictures": len(chosen),
        "regions": len(known.mentions),
        "dev_pictures": len(rows),
        "passes": options.passes,
    }
    for name, columns in parts(model.vision.config.map_channels, words.table.shape[1]).items():
        head, scale = train_head(known, columns, len(heads), options.passes)
        with torch.no_grad():
            best = (
                head((asked.features[:, columns].float() - scale.mean) / scale.deviation).argmax(-1).tolist()
            )
        right = [float(noun in names) for noun, names in zip(best, accepted, strict=True)]
        for kind in KINDS:
            of_kind = [place for place, drawn in enumerate(asked.kinds) if drawn == kind]
            shown = accuracy([str(asked.rows[one]) for one in of_kind], [right[one] for one in of_kind])
            figures[f"{name}: {kind}"] = asdict(shown)
            print(name, kind, shown, flush=True)
    options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
