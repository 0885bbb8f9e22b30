"""Runs the stage of the closer look: crops round named boxes, points and scribbles -> their nouns.

    python -m openferret.train.stages.run_closer_look --data DIR --out DIR --minutes 26

`--data` is as for stage T. The trunk begins as ImageNet left it, its first three stages stay so. Saved every five
minutes; started again with the same `--out`, it goes on.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from openferret.coordinates import UnitBox
from openferret.kit.conversion import vision_model
from openferret.kit.eight_bits import widened
from openferret.model.closer_look import CloserLook
from openferret.model.vision import EfficientNetLiteConfig, fold_batch_norm, folded_head
from openferret.processing.closer import crop_image, crop_window
from openferret.train.stages.devices import add_device_options, batches, half_precision, moved, open_device
from openferret.train.stages.export import CLOSER_FROZEN
from openferret.train.stages.pictures import PixelStore, Record
from openferret.train.stages.regions import KINDS, Kind, draw_region
from openferret.train.stages.run_trunk import learning_rate, load_records, prepare_words
from openferret.train.stages.states import follow, plain_errors, save_state, tell
from openferret.train.stages.trunk import KIT_SAMPLER, noun_shares

_DRAWINGS: tuple[Kind, ...] = ("box", "box", "point", "scribble")  # half are boxes
_PREFIX = "model.closer_look."


@dataclass(frozen=True)
class NamedBox:
    """A named thing.

    Attributes:
        row: of its picture, in the pixel store.
        box: (x1, y1, x2, y2) in 0..1.
        shares: of the nouns that it is called, by number.
        heads: all of them.
    """

    row: int
    box: UnitBox
    shares: dict[int, float]
    heads: frozenset[str]


@dataclass(frozen=True)
class DrawnRegion:
    """A region as it was drawn: its bounds (x1, y1, x2, y2) in 0..1, on the picture in a row of the pixel store."""

    row: int
    bounds: UnitBox
    kind: Kind
    zoom: float = 1.0


def named_boxes(records: Sequence[Record], nouns: dict[str, int], alone: bool) -> list[NamedBox]:
    """Everything that is named; `alone`: only phrases of one box, of unknown nouns too (for measuring)."""
    found = []
    for record in records:
        for box, heads in record.names(alone=alone).items():
            known = {nouns[head]: share for head, share in heads.items() if head in nouns}
            if known or alone:
                found.append(NamedBox(record.row, box, known, frozenset(heads)))
    return found


def drawn_for_training(one: NamedBox, kind: Kind, generator: np.random.Generator) -> DrawnRegion:
    """A box whose sides are a little off, a point or a scribble; the crop is wider or narrower than it will be."""
    bounds = one.box
    if kind == "box":
        sides = np.array(bounds)
        size = np.tile(sides[2:] - sides[:2], 2)
        x1, y1, x2, y2 = (sides + generator.normal(0, 0.04, 4) * size).clip(0, 1).tolist()
        bounds = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
    else:
        bounds = draw_region(one.box, kind, KIT_SAMPLER.points, generator)[1]
    return DrawnRegion(one.row, bounds, kind, float(generator.uniform(0.8, 1.3)))


@dataclass(frozen=True)
class Crops:
    """Crops round R regions, small to hand on.

    Attributes:
        cut: uint8 [R, S, S, 3].
        bounds: float [R, 4], of the regions, (x1, y1, x2, y2) in 0..1.
        jitter: float [R, 2], contrast and brightness factors; None leaves colours alone.
        nouns: float [R, N], what each is called; None where nobody needs it.
    """

    cut: Tensor
    bounds: Tensor
    jitter: Tensor | None = None
    nouns: Tensor | None = None

    def pixels(self) -> Tensor:
        """Float32 [R, 3, S, S] in -1..1, channels last in memory."""
        values = (self.cut.permute(0, 3, 1, 2).float() - 127) / 128
        if self.jitter is not None:
            contrast, brightness = self.jitter[:, :, None, None, None].unbind(1)
            values = (values * contrast + brightness).clamp(-1, 1)
        return values.contiguous(memory_format=torch.channels_last)


def read_crops(
    store: PixelStore, regions: Sequence[DrawnRegion], side: int, generator: np.random.Generator | None = None
) -> Crops:
    """Crops round regions.

    Args:
        store: pixels.
        regions: at least one.
        side: of the crops, in pixels.
        generator: mirrors half of them and changes contrast and brightness; None shows them as they are.
    """
    crops, bounds = [], []
    for one in regions:
        window = crop_window(one.bounds, one.kind, one.zoom)
        crop = crop_image(Image.fromarray(np.asarray(store[one.row])), window, side)
        x1, y1, x2, y2 = one.bounds
        if generator is not None and generator.random() < 0.5:
            crop, x1, x2 = crop[:, ::-1], 1 - x2, 1 - x1
        crops.append(crop)
        bounds.append((x1, y1, x2, y2))
    jitter = None
    if generator is not None:
        jitter = torch.from_numpy(generator.uniform([0.75, -0.15], [1.25, 0.15], (len(crops), 2))).float()
    return Crops(torch.from_numpy(np.stack(crops)), torch.tensor(bounds), jitter)


def mixed(crops: Crops, mixup: float) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels, bounds and targets of a batch with nouns, each mixed with another of the batch.

    Args:
        crops: with nouns, [R, N].
        mixup: parameter of the beta distribution that the share of the other comes from; 0 mixes nothing.

    Returns:
        float32 [R, 3, S, S] in -1..1, [R, 4] in 0..1 and [R, N].
    """
    assert crops.nouns is not None  # of every batch that is trained on
    parts = crops.pixels(), crops.bounds, crops.nouns
    if not mixup:
        return parts
    share = float(torch.distributions.Beta(mixup, mixup).sample())
    other = torch.randperm(len(crops.bounds), device=crops.bounds.device)
    pixels, bounds, nouns = (share * one + (1 - share) * one[other] for one in parts)
    return pixels.contiguous(memory_format=torch.channels_last), bounds, nouns


def untrained(nouns: int) -> CloserLook:
    """ImageNet's trunk and head; it says nothing of the nouns yet."""
    config = EfficientNetLiteConfig()
    model = CloserLook(config, nouns)
    published = {name: one.float() for name, one in load_file(vision_model()).items()}
    model.trunk.load_state_dict(fold_batch_norm(published, config))
    model.head.load_state_dict(folded_head(published))
    torch.nn.init.zeros_(model.output.weight)
    torch.nn.init.zeros_(model.output.bias)
    return model


@torch.no_grad()
def evaluate(
    model: CloserLook, store: PixelStore, boxes: Sequence[NamedBox], heads: Sequence[str], side: int
) -> dict[str, float]:
    """Head noun right for any phrase of the region, by kind."""
    model.eval()
    device = model.output.weight.device
    figures: dict[str, float] = {}
    for kind in KINDS:
        generator, right = np.random.default_rng(0), 0
        for start in range(0, len(boxes), 64):
            group = boxes[start : start + 64]
            regions = [
                DrawnRegion(one.row, draw_region(one.box, kind, KIT_SAMPLER.points, generator)[1], kind)
                for one in group
            ]
            crops = moved(read_crops(store, regions, side), device)
            with half_precision(device):
                best = model(crops.pixels(), crops.bounds).argmax(-1).tolist()
            right += sum(heads[noun] in one.heads for noun, one in zip(best, group, strict=True))
        figures[kind] = right / max(len(boxes), 1)
    model.train()
    return figures


def new_optimizer(model: CloserLook) -> torch.optim.Optimizer:
    """Freezes the trunk's first stages; the rest of it learns at a lower highest `rate` than the new layer."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not f"{_PREFIX}{name}".startswith(CLOSER_FROZEN))
    new = list(model.output.parameters())
    own = {id(one) for one in new}
    old = [one for one in model.parameters() if one.requires_grad and id(one) not in own]
    groups = ((old, 3e-4), (new, 2e-3))
    return torch.optim.AdamW([{"params": group, "rate": rate} for group, rate in groups], weight_decay=0.05)


@plain_errors
def main() -> None:
    """Trains until the minutes are over, evaluating on dev as it goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="adapter.safetensors that the first leg goes on from")
    parser.add_argument("--detected", type=Path, help="what run_detector saw on the train pictures")
    parser.add_argument("--minutes", type=float, default=26)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--peak", type=float, default=1.0, help="factor of the highest learning rates")
    parser.add_argument("--smoothing", type=float, default=0.05, help="share of a target that all nouns have")
    parser.add_argument(
        "--mixup",
        type=float,
        default=0.0,
        help="crops are mixed in pairs, in shares of a beta distribution with this parameter (arXiv 1710.09412)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=Path, help="stage T's pictures.npy, where there is one")
    parser.add_argument("--save-every", type=float, default=300, help="seconds")
    add_device_options(parser)
    options = parser.parse_args()
    if not 0 <= options.smoothing < 1:
        parser.error("--smoothing must be 0 or more, and less than 1")
    if not options.mixup >= 0:
        parser.error("--mixup must be 0 or more")
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    device = open_device(options.device)
    store, train, dev, mini = load_records(
        options.data, options.pictures or options.out / "pictures.npy", options.detected
    )
    _, heads = prepare_words(train + dev + mini)
    nouns = {head: number for number, head in enumerate(heads)}
    boxes = named_boxes(list({record.row: record for record in train}.values()), nouns, alone=False)
    kept_back = named_boxes(dev, nouns, alone=True)
    model = untrained(len(heads))
    if options.start is not None:
        began_with = widened(load_file(options.start))
        ours = {n.removeprefix(_PREFIX): one for n, one in began_with.items() if n.startswith(_PREFIX)}
        model.load_state_dict(ours, strict=False)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = new_optimizer(model)
    average = copy.deepcopy(model).eval()
    step, elapsed, saved = 0, 0.0, options.out / "state.pt"
    if saved.exists():
        state = torch.load(saved, weights_only=True, map_location=device)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, elapsed = state["step"], state["elapsed"]
    budget = options.minutes * 60
    model.train()
    each = len(boxes) // options.batch  # steps of a pass

    def make(number: int) -> Crops:
        generator = np.random.default_rng([options.seed, number])
        order = np.random.default_rng([options.seed, number // each, 1]).permutation(len(boxes))
        place = number % each * options.batch
        chosen = [boxes[one] for one in order[place : place + options.batch]]
        regions = [
            drawn_for_training(one, _DRAWINGS[generator.integers(len(_DRAWINGS))], generator)
            for one in chosen
        ]
        crops = read_crops(store, regions, options.side, generator)
        return replace(crops, nouns=noun_shares([one.shares for one in chosen], len(heads)))

    made = batches(make, step, options.workers)
    last_save = time.monotonic()
    running: Tensor | None = None
    while elapsed < budget:
        began = time.monotonic()
        pixels, bounds, target = mixed(moved(next(made), device), options.mixup)
        with half_precision(device):
            logits = model(pixels, bounds)
        loss = functional.cross_entropy(logits.float(), target, label_smoothing=options.smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        factor = options.peak * learning_rate(elapsed, budget, 30.0)
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * factor
        optimizer.step()
        follow(average, model, step, 0.995)
        step += 1
        elapsed += time.monotonic() - began
        running = loss.detach() if running is None else 0.98 * running + 0.02 * loss.detach()
        if time.monotonic() - last_save > options.save_every or elapsed >= budget:
            figures = evaluate(average, store, kept_back, heads, options.side)
            line = {"step": step, "passes": round(step / each, 2), "seconds": round(elapsed)}
            line |= {
                "loss": round(running.item(), 3),
                **{kind: round(one, 4) for kind, one in figures.items()},
            }
            tell(line, options.out)
            state = {"model": model.state_dict(), "average": average.state_dict(), "heads": heads}
            state |= {"optimizer": optimizer.state_dict(), "step": step, "elapsed": elapsed}
            save_state(state, saved)
            last_save = time.monotonic()


if __name__ == "__main__":
    main()
