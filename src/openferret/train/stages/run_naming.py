"""Runs the naming stage: the namer sees every named box many times, on features read once.

    python -m openferret.train.stages.run_naming --data DIR --trunk runs/trunk/state.pt

Stage T shows a step some hundred regions and pays for the whole vision side. With the trunk still, what the namer
reads of a region can be computed once (0.7 GB), and a pass over all boxes takes seconds. The features are kept beside
the trunk, so that a stopped stage need not read the pictures again; `--trunk` is rewritten.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from openferret.errors import InputError
from openferret.model.namer import namer_features
from openferret.train.stages.devices import half_precision, moved, open_device
from openferret.train.stages.namer_folds import FOLDS, fold_of
from openferret.train.stages.pictures import WHOLE, Record, cropped, random_crop
from openferret.train.stages.regions import KINDS, Kind, RegionTensors, draw_region
from openferret.train.stages.run_trunk import evaluate, load_records, prepare_words
from openferret.train.stages.states import plain_errors, save_state
from openferret.train.stages.trunk import KIT_SAMPLER, TrunkModel, noun_shares, noun_vectors

MIRROR = np.array([-1, 1], np.float32)
"""A mirrored map stands for the mirrored picture: convolutions see them almost alike."""


@dataclass(frozen=True)
class NamedRegions:
    """Regions, each drawn in every kind.

    Attributes:
        features: float16 [n, F].
        mentions: of each, how often captions call it by which noun.
        rows: of the pictures that they lie on, in the pixel store.
        kinds: how each was drawn.
    """

    features: Tensor
    mentions: list[dict[int, float]]
    rows: list[int]
    kinds: list[Kind]

    def without_fold(self, fold: int) -> NamedRegions:
        """Those on the pictures that a fold's namer learns."""
        kept = [number for number, row in enumerate(self.rows) if fold_of(row) != fold]
        return NamedRegions(
            self.features[torch.tensor(kept)],
            [self.mentions[number] for number in kept],
            [self.rows[number] for number in kept],
            [self.kinds[number] for number in kept],
        )

    @classmethod
    def joined(cls, parts: Sequence[NamedRegions]) -> NamedRegions:
        """Several behind each other."""
        return cls(
            torch.cat([one.features for one in parts]),
            [mentions for one in parts for mentions in one.mentions],
            [row for one in parts for row in one.rows],
            [kind for one in parts for kind in one.kinds],
        )


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each feature, float [F].

    Features of five maps differ in scale by a factor of a hundred; brought to one scale the namer learns two to three
    times faster. At inference there is no such step: it is folded into the namer's first matrix.
    """

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Scale:
        """Of features float16 [n, F], read in parts."""
        total, squares = torch.zeros(2, features.shape[1], dtype=torch.float64)
        for part in torch.split(features, 4096):
            wide = part.double()
            total, squares = total + wide.sum(0), squares + wide.square().sum(0)
        mean = total / len(features)
        deviation = (squares / len(features) - mean.square()).clamp(min=0).sqrt() + 1e-3
        return cls(mean.float(), deviation.float())

    def unfold(self, layer: nn.Linear) -> None:
        """A layer for features as they are -> the same for scaled ones."""
        layer.bias.copy_(layer.bias + layer.weight @ self.mean)
        layer.weight.copy_(layer.weight * self.deviation)

    def fold(self, layer: nn.Linear) -> None:
        """A layer for scaled features -> the same for features as they are."""
        layer.weight.copy_(layer.weight / self.deviation)
        layer.bias.copy_(layer.bias - layer.weight @ self.mean)


@torch.no_grad()
def read_all(
    model: TrunkModel,
    store: NDArray[np.uint8],
    records: list[Record],
    nouns: dict[str, int],
    side: int,
    alone: bool = False,
    drawings: int = 1,
    view: int = 0,
) -> NamedRegions:
    """What is seen of every named box as a box, a point and a scribble, each upright or mirrored.

    A namer that has seen every region in one view only learns that view by heart: others are random crops in other
    brightness and contrast.

    Args:
        model: of stage T.
        store: pixels.
        records: of the pictures.
        nouns: the number of each.
        side: of the pictures, in pixels.
        alone: only phrases of one box, and nothing mirrored: for measuring.
        drawings: how often each box is drawn in every kind.
        view: 0 shows whole pictures as they are, every other number other crops.
    """
    model.eval()
    device = model.namer.hidden.weight.device
    features: list[Tensor] = []
    mentions: list[dict[int, float]] = []
    rows: list[int] = []
    kinds: list[Kind] = []
    for start in range(0, len(records), 16):
        group = records[start : start + 16]
        generator = np.random.default_rng([3, start] if view == 0 else [3, start, view])
        crops, jitter = [WHOLE] * len(group), None
        if view:
            crops = [random_crop(generator) for _ in group]
            jitter = torch.from_numpy(generator.uniform([0.75, -0.15], [1.25, 0.15], (len(group), 2))).float()
        shown = moved(cropped(store, [one.row for one in group], crops, side, jitter), device)
        with half_precision(device):
            seen = model.vision(shown.pixels())
        maps = [level.float() for level in seen.feature_maps]
        drawn: dict[bool, list[tuple[NDArray[np.float32], int, Kind, dict[int, float]]]]
        drawn = {False: [], True: []}
        for place, record in enumerate(group):
            for named, heads in record.mentions(alone=alone).items():
                box, left = crops[place].place(named)
                if left <= 0.5:
                    continue
                known = {nouns[head]: count for head, count in heads.items() if head in nouns}
                for kind in KINDS * drawings if known or alone else ():
                    points, _ = draw_region(box, kind, KIT_SAMPLER.points, generator)
                    mirrored = bool(generator.random() < 0.5) and not alone
                    placed = points * MIRROR + (1, 0) if mirrored else points
                    drawn[mirrored].append((placed, place, kind, known))
        for mirrored, regions in drawn.items():
            if regions:
                levels = [level.flip(-1) for level in maps] if mirrored else maps
                spread, places, drawn_as, known_as = zip(*regions, strict=True)
                pointed = RegionTensors.of(np.stack(spread).astype(np.float32), KIT_SAMPLER)
                read = _read(model, levels, moved(pointed, device), torch.tensor(places, device=device))
                features.append(read.half().cpu())
                mentions += known_as
                rows += [group[place].row for place in places]
                kinds += drawn_as
    return NamedRegions(torch.cat(features), mentions, rows, kinds)


def _read(model: TrunkModel, maps: list[Tensor], drawn: RegionTensors, picture: Tensor) -> Tensor:
    vectors = model.sampler(maps, drawn.points, drawn.anchors, drawn.neighbors, picture)
    return namer_features(maps, drawn.points, picture, vectors)


def train_namer(
    model: TrunkModel, regions: NamedRegions, epochs: int, rate: float, batch: int = 512
) -> float:
    """Fits the namer; returns the last epoch's mean loss.

    A region that everybody mentions weighs more than one that a single person does, by the root of how often: it is
    what people point at. On dev, of the phrases for boxes, points and scribbles 0.538, 0.430 and 0.488 were right then
    rather than 0.542, 0.421 and 0.460, and of the regions as many or more; by the number itself 0.547, 0.423 and 0.484,
    and fewer points.
    """
    learned = [*model.namer.hidden.parameters(), *model.namer.output.parameters()]
    device = learned[0].device
    scale = moved(Scale.of(regions.features), device)
    with torch.no_grad():
        scale.unfold(model.namer.hidden)
    optimizer = torch.optim.AdamW(learned, lr=rate, weight_decay=0.05)
    model.namer.train()
    steps, running = len(regions.mentions) // batch, 0.0
    often = torch.tensor([sum(mentions.values()) for mentions in regions.mentions]).sqrt()
    often = often / often.mean()
    generator = np.random.default_rng(4)
    for epoch in range(epochs):
        order, running = generator.permutation(len(regions.mentions)), 0.0
        for step in range(steps):
            chosen = order[step * batch : (step + 1) * batch]
            shares = noun_shares([regions.mentions[one] for one in chosen], model.namer.output.out_features)
            target = (shares * often[torch.from_numpy(chosen)][:, None]).to(device)
            read = regions.features[torch.from_numpy(chosen)].to(device).float()
            logits = model.namer((read - scale.mean) / scale.deviation)
            loss = functional.cross_entropy(logits, target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            share = (epoch + step / steps) / epochs
            for group in optimizer.param_groups:
                group["lr"] = rate * min(share * 50, 1.0) * (1 + np.cos(np.pi * share)) / 2
            optimizer.step()
            running += loss.item() / steps
        print({"pass": epoch + 1, "loss": round(running, 3)}, flush=True)
    with torch.no_grad():
        scale.fold(model.namer.hidden)
    model.namer.eval()
    return running


def new_namer(
    model: TrunkModel, regions: NamedRegions, epochs: int, rate: float
) -> tuple[float, dict[str, Tensor]]:
    """Fits the namer anew: one that went on from stage T's would know those pictures by heart.

    Returns:
        The last epoch's mean loss, and the namer's weights, its words left out.
    """
    learned = {"hidden": model.namer.hidden, "output": model.namer.output}
    for layer in learned.values():
        layer.reset_parameters()
        layer.requires_grad_(True)
    loss = train_namer(model, regions, epochs, rate)
    state = {
        f"{name}.{part}": tensor.clone()
        for name, layer in learned.items()
        for part, tensor in layer.state_dict().items()
    }
    return loss, state


@plain_errors
def main() -> None:
    """Trains, evaluates on dev, and puts the namer into the trunk's state."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--trunk", type=Path, required=True)
    parser.add_argument(
        "--language", type=Path, help="stage L's state, whose sampler takes the trunk's place"
    )
    parser.add_argument("--detected", type=Path, help="what run_detector saw on the train pictures")
    parser.add_argument(
        "--folds", type=Path, help="where to put namers that each leave out a share of the pictures"
    )
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--drawings", type=int, default=1, help="of each box in every kind")
    parser.add_argument("--views", type=int, default=2, help="of each picture: the whole and random crops")
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1")
    options = parser.parse_args()
    torch.manual_seed(0)
    device = open_device(options.device)
    store, train, dev, mini = load_records(
        options.data, options.trunk.parent / "pictures.npy", options.detected
    )
    words, heads = prepare_words(train + dev + mini)
    words = moved(words, device)
    train = list({record.row: record for record in train}.values())
    model = TrunkModel(words.table.shape[1], len(heads))
    state = torch.load(options.trunk, weights_only=True)
    if state["heads"] != heads:
        raise InputError(f"{options.trunk} knows other nouns; give the data it was trained on")
    model.load_state_dict(state["average"])
    if options.language is not None:
        learned = torch.load(options.language, weights_only=True)["model"]
        model.sampler.load_state_dict(
            {
                name.removeprefix("trunk.sampler."): one
                for name, one in learned.items()
                if name.startswith("trunk.sampler.")
            }
        )
    model = model.to(device, memory_format=torch.channels_last).requires_grad_(False)  # type: ignore[call-overload]
    model.namer.words.weight.copy_(noun_vectors(words, heads).T)
    began = time.monotonic()
    sampler = "trunk" if options.language is None else "language"  # whose sampler the features were read with
    teachers = "captions" if options.detected is None else "captions-detected"
    nouns = {head: number for number, head in enumerate(heads)}
    views = []
    for view in range(options.views):
        name = f"mentioned-{state['step']}-{options.side}-{sampler}-{teachers}-{options.drawings}-{view}.pt"
        kept = options.trunk.with_name(name)
        if not kept.exists():
            read = read_all(model, store, train, nouns, options.side, drawings=options.drawings, view=view)
            save_state(vars(read), kept)
        views.append(NamedRegions(**torch.load(kept, weights_only=True, mmap=True)))
    regions = NamedRegions.joined(views)
    print({"regions": len(regions.mentions), "seconds": round(time.monotonic() - began)}, flush=True)
    if options.folds is not None:
        folds = [
            new_namer(model, regions.without_fold(fold), options.epochs, options.rate)[1]
            for fold in range(FOLDS)
        ]
        torch.save(moved(folds, torch.device("cpu")), options.folds)
    loss, _ = new_namer(model, regions, options.epochs, options.rate)
    figures = {
        name: round(one, 4) for name, one in evaluate(model, store, dev, words, heads, options.side).items()
    }
    print({"loss": round(loss, 3), "seconds": round(time.monotonic() - began), **figures}, flush=True)
    state["average"] = model.state_dict()
    save_state(state, options.trunk)


if __name__ == "__main__":
    main()
