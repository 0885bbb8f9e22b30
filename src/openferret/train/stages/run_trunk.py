"""Runs stage T: the vision side learns phrases and boxes.

    python -m openferret.train.stages.run_trunk --data DIR --out DIR --minutes 50

`--data` holds Flickr30k Entities (`Annotations/`, `Sentences/`, `flickr30k-images/`, `train.txt`) and,
optionally, COCO (`train2017/`, `instances_train2017.json`). Saved every five minutes; started again with the
same `--out`, it goes on.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer

from openferret.errors import InputError
from openferret.flickr30k import development_names, read_entities
from openferret.kit.conversion import language_model, vision_model
from openferret.model.vision import fold_batch_norm
from openferret.train.stages.detected import Companions, read_detections, with_detections
from openferret.train.stages.devices import add_device_options, batches, half_precision, moved, open_device
from openferret.train.stages.export import trunk_tensors
from openferret.train.stages.pasting import paste_things, read_cutouts
from openferret.train.stages.pictures import (
    WHOLE,
    Record,
    coco_records,
    cropped,
    flickr_record,
    mirror_words,
    pixel_store,
)
from openferret.train.stages.regions import KINDS, RegionTensors, draw_region
from openferret.train.stages.states import follow, plain_errors, save_state, tell
from openferret.train.stages.trunk import (
    KIT_SAMPLER,
    WEIGHTS,
    Batch,
    TrunkModel,
    Words,
    compute_losses,
    name_regions,
    noun_table,
    noun_vectors,
    read_regions,
    sample_batch,
)


def evaluate(
    model: TrunkModel,
    store: NDArray[np.uint8],
    records: list[Record],
    words: Words,
    heads: list[str],
    side: int,
) -> dict[str, float]:
    """R@1 (merged boxes, one phrase a question); head noun right for any phrase of the region, by kind.

    Model and words are on one device.
    """
    outcomes = judge(model, store, records, words, heads, side)
    return {name: float(np.mean(right)) for name, (_, right) in outcomes.items()}


@torch.no_grad()
def judge(
    model: TrunkModel,
    store: NDArray[np.uint8],
    records: list[Record],
    words: Words,
    heads: list[str],
    side: int,
) -> dict[str, tuple[list[str], list[float]]]:
    """What `evaluate` averages: of each question its picture, and 1 if the answer was right.

    Returns:
        "recall", and one for each kind of region.
    """
    model.eval()
    device = words.table.device
    outcomes: dict[str, tuple[list[str], list[float]]] = {name: ([], []) for name in ("recall", *KINDS)}
    for start in range(0, len(records), 8):
        group = records[start : start + 8]
        names = [record.names() for record in group]
        shown = moved(cropped(store, [record.row for record in group], [WHOLE] * len(group), side), device)
        with half_precision(device):
            seen = model.vision(shown.pixels())
            pairs = [(index, one) for index, record in enumerate(group) for one in record.named]
            embeddings, mask = words.batch([one.text.lower() for _, one in pairs])
            picture = torch.tensor([index for index, _ in pairs], device=device)
            located = model.locator(
                seen.feature_maps[-1],
                model.locator.phrase(embeddings, mask),
                picture,
                torch.ones(len(pairs), dtype=torch.bool, device=device),
            )
        hulls = torch.tensor(
            [
                [f(box[k] for box in one.boxes) for f, k in ((min, 0), (min, 1), (max, 2), (max, 3))]
                for _, one in pairs
            ]
        )
        overlap = paired_iou(located.box.cpu(), hulls)
        outcomes["recall"][0].extend(group[index].name for index, _ in pairs)
        outcomes["recall"][1].extend((overlap >= 0.5).float().tolist())
        for kind in KINDS:
            chosen = [(index, one) for index, one in pairs if len(one.boxes) == 1]
            chosen = list({(index, one.boxes[0]): (index, one) for index, one in chosen}.values())
            generator = np.random.default_rng(start)
            points = np.stack(
                [draw_region(one.boxes[0], kind, KIT_SAMPLER.points, generator)[0] for _, one in chosen]
            )
            regions = moved(RegionTensors.of(points, KIT_SAMPLER), device)
            owners = torch.tensor([index for index, _ in chosen], device=device)
            vectors = read_regions(model, seen, regions, owners)
            best = name_regions(model, seen, regions, owners, vectors).argmax(-1).tolist()
            outcomes[kind][0].extend(group[index].name for index, _ in chosen)
            outcomes[kind][1].extend(
                float(heads[noun] in names[index][one.boxes[0]])
                for noun, (index, one) in zip(best, chosen, strict=True)
            )
    model.train()
    return outcomes


def paired_iou(boxes: Tensor, targets: Tensor) -> Tensor:
    """IoU of matching boxes [n, 4] -> [n]."""
    low = torch.maximum(boxes[:, :2], targets[:, :2])
    high = torch.minimum(boxes[:, 2:], targets[:, 2:])
    overlap = (high - low).clamp(min=0).prod(-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1) + (targets[:, 2:] - targets[:, :2]).prod(-1)
    return overlap / (areas - overlap).clamp(min=1e-9)


def load_records(
    data: Path, cache: Path, detected: Path | None = None
) -> tuple[NDArray[np.uint8], list[Record], list[Record], list[Record]]:
    """Pixel store, train records (COCO four times), dev records, COCO mini-val records.

    Args:
        data: as `--data`.
        cache: of the pixel store.
        detected: what a detector saw on the train pictures (`openferret.train.stages.detected`), if anything.
    """
    seen = read_detections(detected) if detected is not None else {}
    classes = sorted({one.name for found in seen.values() for one in found})
    names = (data / "train.txt").read_text().split()
    kept_back = development_names(names)
    files = [data / "flickr30k-images" / f"{name}.jpg" for name in names]
    train: list[Record] = []
    dev: list[Record] = []
    for row, picture in enumerate(read_entities(data, names)):
        record = flickr_record(row, picture)
        if record.named and picture.name in kept_back:
            dev.append(record)
        elif record.named:
            found = seen.get(record.name)
            train.append(record if found is None else with_detections(record, found, classes))
    annotations = data / "instances_train2017.json"
    mini: list[Record] = []
    if annotations.is_file():
        coco, coco_files = coco_records(annotations, len(files))
        files += [data / "train2017" / name for name in coco_files]
        train += coco * 4
        mini, mini_files = coco_records(annotations, len(files), training=False)
        files += [data / "train2017" / name for name in mini_files]
    return pixel_store(cache, files), train, dev, mini


def prepare_words(records: list[Record]) -> tuple[Words, list[str]]:
    """Word embeddings, the ids of every phrase (as said, in lower case), the head nouns seen five times."""
    folder = language_model()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        table = file.get_tensor("model.embed_tokens.weight").float()
    texts: set[str] = set()
    counts: dict[str, int] = {}
    for record in records:
        for one in record.named:
            counts[one.head] = counts.get(one.head, 0) + (not one.detected)
            mirrored = mirror_words(one.text)
            texts |= {one.text, one.text.lower(), mirrored, mirrored.lower()}
    heads = sorted(head for head, count in counts.items() if count >= 5)
    texts |= {" " + head for head in heads}
    ordered = sorted(texts)
    ids = dict(zip(ordered, tokenizer(ordered)["input_ids"], strict=True))
    return Words(table, ids), heads


def untrained(words: Words, heads: list[str]) -> TrunkModel:
    """Both trunks as ImageNet left them, all else new; the namer's nouns are the language model's words."""
    model = TrunkModel(words.table.shape[1], len(heads))
    with torch.no_grad():
        model.namer.words.weight.copy_(noun_vectors(words, heads).T)
    published = {name: one.float() for name, one in load_file(vision_model()).items()}
    model.vision.trunk.load_state_dict(fold_batch_norm(published, model.vision.config))
    if model.vision.published is not None:
        model.vision.published.load_state_dict(fold_batch_norm(published, model.vision.config))
        model.vision.published.requires_grad_(False)
    return model


def new_optimizer(model: TrunkModel, only: str = "") -> torch.optim.Optimizer:
    """Freezes the trunk's first stages; the rest of it learns at a lower highest `rate` than what is new.

    Args:
        model: is frozen in place.
        only: parameters whose names do not begin so are frozen too.

    Raises:
        InputError: nothing is left to learn.
    """
    frozen = ("vision.published.", "vision.trunk.stem", *(f"vision.trunk.stages.{k}." for k in range(3)))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(only) and not name.startswith(frozen))
    trunk = [p for p in model.vision.trunk.parameters() if p.requires_grad]
    own = {id(p) for p in model.vision.trunk.parameters()} | {id(model.namer.words.weight)}
    fresh = [p for p in model.parameters() if id(p) not in own and p.requires_grad]
    if not trunk and not fresh:
        raise InputError(f"no parameter of stage T has a name that begins with {only!r}")
    groups = ((trunk, 1.5e-4), (fresh, 8e-4))
    return torch.optim.AdamW(
        [{"params": group, "rate": rate} for group, rate in groups if group], weight_decay=0.05
    )


def learning_rate(elapsed: float, budget: float, warm_up: float = 60.0) -> float:
    """Factor of the peak rate: a short warm-up, then a cosine down to 2 %; all in seconds."""
    share = min(elapsed / budget, 1.0)
    return min(elapsed / min(warm_up, budget / 20), 1.0) * (
        0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share))
    )


def read_start(file: Path, heads: list[str]) -> dict[str, Tensor]:
    """The weights that a leg goes on from, under the names of `TrunkModel`.

    Args:
        file: an adapter.safetensors, or a state.pt of this stage.
        heads: the nouns of the data.

    Raises:
        InputError: its namer has learned other nouns than these data have.
    """
    if file.suffix == ".pt":
        state = torch.load(file, weights_only=True)
        weights, known = state["average"], state["heads"]
    else:
        weights = trunk_tensors(load_file(file))
        with safe_open(file, framework="pt") as opened:
            known = (opened.metadata() or {}).get("nouns", "").split(" ")
    if known != heads:
        raise InputError(
            f"{file} names {len(known)} nouns, these data have {len(heads)}, not the same ones: go on from it with "
            "the data that it was trained on (--detected too, if it had that), or begin anew without --start"
        )
    return weights  # type: ignore[no-any-return]


@plain_errors
def main() -> None:
    """Trains until the minutes are over, evaluating on dev as it goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--start", type=Path, help="adapter.safetensors or state.pt that the first leg goes on from"
    )
    parser.add_argument(
        "--only", default="", help="learn only parameters whose names begin so: locator.presence"
    )
    parser.add_argument("--detected", type=Path, help="what run_detector saw on the train pictures")
    parser.add_argument(
        "--paste",
        type=float,
        default=0.0,
        help="share of the pictures that get things cut out of COCO's, 0..1",
    )
    parser.add_argument("--minutes", type=float, default=50)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--peak", type=float, default=1.0, help="factor of the highest learning rates")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-every", type=float, default=300, help="seconds")
    add_device_options(parser)
    options = parser.parse_args()
    if not 0 <= options.paste <= 1:
        parser.error("--paste must be 0 to 1")
    cutouts = {}
    if options.paste:
        cutouts = read_cutouts(options.data / "instances_train2017.json", options.data / "train2017")
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    device = open_device(options.device)
    store, train, dev, mini = load_records(options.data, options.out / "pictures.npy", options.detected)
    words, heads = prepare_words(train + dev + mini)
    words = moved(words, device)
    index = {head: position for position, head in enumerate(heads)}
    classes = [one for record in train if not record.captions for one in record.named]
    companions = Companions.of(train)
    nouns = noun_table(words, heads)
    model = untrained(words, heads)
    if options.start is not None:
        model.load_state_dict(read_start(options.start, heads), strict=options.start.suffix == ".pt")
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = new_optimizer(model, options.only)
    average = copy.deepcopy(model)
    step, elapsed, saved = 0, 0.0, options.out / "state.pt"
    if saved.exists():
        state = torch.load(saved, weights_only=True, map_location=device)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, elapsed = state["step"], state["elapsed"]
    budget = options.minutes * 60
    parameters = [one for group in optimizer.param_groups for one in group["params"]]

    def make(number: int) -> Batch:
        generator = np.random.default_rng([options.seed, number])
        chosen = [train[k] for k in generator.choice(len(train), options.batch, replace=False)]
        pixels, pasted = store, chosen
        if cutouts:
            pixels, pasted = paste_things(store, chosen, cutouts, generator, options.paste)
        return sample_batch(
            pixels, pasted, index, generator, options.side, classes=classes, companions=companions
        )

    made = batches(make, step, options.workers)
    last_save = time.monotonic()
    running: Tensor | None = None
    while elapsed < budget:
        began = time.monotonic()
        losses = compute_losses(model, moved(next(made), device), words, nouns)
        total = torch.stack([WEIGHTS[name] * value for name, value in losses.items()]).sum()
        optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        factor = options.peak * learning_rate(elapsed, budget)
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * factor
        optimizer.step()
        follow(average, model, step, 0.999)
        step += 1
        elapsed += time.monotonic() - began
        values = torch.stack([value.detach() for value in losses.values()])
        running = values if running is None else running * 0.98 + values * 0.02
        if step % 50 == 0:
            told = {name: round(one, 3) for name, one in zip(losses, running.tolist(), strict=True)}
            print(step, round(elapsed), told, flush=True)
        if time.monotonic() - last_save > options.save_every or elapsed >= budget:
            shown = dev if elapsed >= budget else dev[:100]
            figures = evaluate(average, store, shown, words, heads, options.side)
            line = {"step": step, "seconds": round(elapsed), **{k: round(v, 4) for k, v in figures.items()}}
            tell(line, options.out)
            state = {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "step": step,
                "elapsed": elapsed,
            }
            state |= {"optimizer": optimizer.state_dict(), "heads": heads}
            save_state(state, saved)
            last_save = time.monotonic()


if __name__ == "__main__":
    main()
