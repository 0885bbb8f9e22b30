"""Runs the naming stage: the sampler and the namer see every named box many times, on features read once.

    python -m openferret.train.run_naming --data DIR --trunk runs/trunk/state.pt --epochs 10

Stage T shows a step some hundred regions and pays for the whole vision side; with the trunk still, its maps are
read once (3 GB in memory) and a pass over all 27,000 boxes takes a minute. `--trunk` is rewritten.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from openferret.model.vision import VisionOutput
from openferret.processing.geometry import region_geometry
from openferret.train.pictures import WHOLE, Record, crop_pixels
from openferret.train.regions import KINDS, draw_region
from openferret.train.run_trunk import evaluate, load_records, prepare_words
from openferret.train.trunk import (
    KIT_SAMPLER,
    TrunkModel,
    noun_shares,
    noun_table,
    noun_vectors,
    read_regions,
)


@torch.no_grad()
def read_maps(
    model: TrunkModel, store: NDArray[np.uint8], records: list[Record], side: int
) -> list[list[Tensor]]:
    """Every picture's feature maps, whole and upright, bfloat16: for each level one [1, C, h, w] a picture."""
    levels: list[list[Tensor]] = []
    for start in range(0, len(records), 16):
        rows = [record.row for record in records[start : start + 16]]
        with torch.autocast("cpu", torch.bfloat16):
            maps = model.vision(crop_pixels(store, rows, [WHOLE] * len(rows), side)).feature_maps
        levels = levels or [[] for _ in maps]
        for level, batch in zip(levels, maps, strict=True):
            level += batch.to(torch.bfloat16).split(1)
    return levels


def learning_rate(share: float) -> float:
    """Factor of the peak rate: a warm-up over the first fiftieth, then down to nothing."""
    return float(min(share * 50, 1.0) * (1 + np.cos(np.pi * share)) / 2)


def main() -> None:
    """Trains, evaluates on dev, and puts the better sampler and namer into the trunk's state."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--trunk", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=48, help="pictures a step")
    parser.add_argument("--regions", type=int, default=6, help="at most so many regions a picture")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rate", type=float, default=1e-3)
    options = parser.parse_args()
    store, train, dev, mini = load_records(options.data, options.trunk.parent / "pictures.npy")
    train = list({record.row: record for record in train}.values())
    words, heads = prepare_words(train + dev + mini)
    index = {head: position for position, head in enumerate(heads)}
    model = TrunkModel(words.table.shape[1], len(heads))
    state = torch.load(options.trunk, weights_only=True)
    if state["heads"] != heads:
        raise SystemExit(
            f"error: {options.trunk} was trained with other nouns; use the data it was trained on"
        )
    model.load_state_dict(state["average"])
    model = model.to(memory_format=torch.channels_last).requires_grad_(False)  # type: ignore[call-overload]
    with torch.no_grad():
        model.namer.words.weight.copy_(noun_vectors(words, heads).T)
    learned = [*model.sampler.parameters(), *model.namer.hidden.parameters(), *model.namer.norm.parameters()]
    learned += [*model.namer.output.parameters(), model.noun_scale]
    for parameter in learned:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(learned, lr=options.rate, weight_decay=0.1)
    average = copy.deepcopy(model)
    nouns = noun_table(words, heads)
    began = time.monotonic()
    maps = read_maps(model, store, train, options.side)
    print({"maps_seconds": round(time.monotonic() - began)}, flush=True)
    named = [record.names() for record in train]
    shown = [number for number, names in enumerate(named) if names]
    steps = len(shown) // options.batch
    for epoch in range(options.epochs):
        generator = np.random.default_rng([3, epoch])
        order = generator.permutation(shown)
        running = 0.0
        for step in range(steps):
            chosen = order[step * options.batch : (step + 1) * options.batch]
            owners: list[int] = []
            shares: list[dict[int, float]] = []
            points: list[NDArray[np.float32]] = []
            for place, number in enumerate(chosen):
                boxes = list(named[number])
                for pick in generator.permutation(len(boxes))[: options.regions]:
                    known = {index[h]: s for h, s in named[number][boxes[pick]].items() if h in index}
                    if known:
                        kind = KINDS[generator.integers(0, 3)]
                        points.append(draw_region(boxes[pick], kind, KIT_SAMPLER.points, generator)[0])
                        owners.append(place)
                        shares.append(known)
            seen = VisionOutput(feature_maps=tuple(torch.cat([level[n] for n in chosen]) for level in maps))
            geometry = region_geometry(np.stack(points), KIT_SAMPLER)
            vectors = read_regions(model, seen, geometry, torch.tensor(owners))
            target = noun_shares(shares, len(heads))
            alike = functional.normalize(vectors, dim=-1) @ nouns.T * model.noun_scale.exp().clamp(max=100)
            name = functional.cross_entropy(model.namer(vectors), target)
            loss = name + 0.3 * functional.cross_entropy(alike, target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(learned, 5.0)
            for group in optimizer.param_groups:
                group["lr"] = options.rate * learning_rate((epoch + step / steps) / options.epochs)
            optimizer.step()
            with torch.no_grad():
                for kept, new in zip(average.parameters(), model.parameters(), strict=True):
                    if new.requires_grad:
                        kept.lerp_(new, 0.01)
            running += name.item() / steps
        figures = evaluate(average, store, dev[:100], words, heads, options.side)
        line = {"epoch": epoch + 1, "seconds": round(time.monotonic() - began), "loss": round(running, 3)}
        print(line | {kind: round(figures[kind], 4) for kind in KINDS}, flush=True)
    print(evaluate(average, store, dev, words, heads, options.side), flush=True)
    state["average"] = average.state_dict()
    torch.save(state, options.trunk.with_suffix(".part"))
    options.trunk.with_suffix(".part").replace(options.trunk)


if __name__ == "__main__":
    main()
