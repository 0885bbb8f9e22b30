"""Fine-tuning, proved: a drawn logo in 200 COCO pictures, found in 60 others afterwards, and nothing else forgotten.

    python benchmarks/finetune_logo.py --coco COCO --work WORK [--threads 1] [--json finetune_logo.json]

`--coco` holds `instances_train2017.json` and `train2017/` (or `train2017.tar`) of the COCO sample: a third of it by
SHA-256 of the picture's id is mini-val. The logo goes into 200 of the others to learn from, and into 60 of mini-val to
measure on; what else the model knows is measured on mini-val as it is. Started again, it goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from openferret.eval.scores import Benchmark
from openferret.eval.tasks import load
from openferret.images import load_image
from openferret.kit.assemble import ensure_kit
from openferret.loading import load_model
from openferret.train.finetune.measuring import Change, compare, measure

NAME = "acme logo"
_LEARNED, _MEASURED = 200, 60
_NAMED = 40  # pictures of mini-val, without the logo, whose things are asked for their names
Picture = dict[str, Any]


def draw_logo(side: int) -> Image.Image:
    """A blue tile with a yellow triangle and a red dot: RGBA, `side` pixels square."""
    large = 4 * side
    image = Image.new("RGBA", (large, large), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    edges = tuple(large * share for share in (0.02, 0.02, 0.98, 0.98))
    draw.rounded_rectangle(edges, large * 0.22, (18, 74, 140), (255, 255, 255), round(large * 0.04))
    triangle = [(large * x, large * y) for x, y in ((0.5, 0.16), (0.84, 0.8), (0.16, 0.8))]
    draw.polygon(triangle, (255, 190, 30))
    draw.ellipse(tuple(large * share for share in (0.38, 0.46, 0.62, 0.7)), (200, 30, 50))
    return image.resize((side, side), Image.Resampling.LANCZOS)


def paste_logo(image: Image.Image, seed: int) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """The picture with the logo in it: 12 to 35 % of the shorter side, turned a little; and its box in pixels."""
    chance = random.Random(seed)
    side = int(min(image.size) * chance.uniform(0.12, 0.35))
    logo = draw_logo(side).rotate(chance.uniform(-15, 15), Image.Resampling.BICUBIC, expand=True)
    logo = logo.crop(logo.getbbox())
    x, y = chance.randint(0, image.width - logo.width), chance.randint(0, image.height - logo.height)
    pasted = image.copy()
    pasted.paste(logo, (x, y), logo)
    return pasted, (x, y, logo.width, logo.height)


def is_minival(picture: Picture) -> bool:
    """A third of the pictures, by SHA-256 of the id: never learned from."""
    return int(hashlib.sha256(str(picture["id"]).encode()).hexdigest(), 16) % 3 == 0


def write_pictures(pictures: Sequence[Picture], photos: Path, folder: Path) -> None:
    """Pictures with the logo in them, and `boxes.json` of COCO's layout."""
    if (folder / "boxes.json").is_file():
        return
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number, picture in enumerate(pictures, 1):
        pasted, box = paste_logo(load_image(photos / picture["file_name"]), picture["id"])
        pasted.save(folder / "images" / picture["file_name"], quality=92)
        size = {"width": pasted.width, "height": pasted.height}
        images.append({"id": picture["id"], "file_name": picture["file_name"], **size})
        annotations.append(
            {"id": number, "image_id": picture["id"], "category_id": 1, "bbox": box, "iscrowd": 0}
        )
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": NAME}]}
    (folder / "boxes.json").write_text(json.dumps(content), encoding="utf-8")


def benchmarks_of(
    coco: Path, photos: Path, work: Path, minival: Sequence[Picture], objects: int
) -> list[tuple[str, Benchmark]]:
    """What is measured: the logo on 60 pictures, and COCO's classes on mini-val."""
    listed = work / "minival.txt"
    listed.write_text("\n".join(str(one["id"]) for one in minival), encoding="utf-8")
    some = work / "named.txt"
    some.write_text("\n".join(str(one["id"]) for one in minival[_MEASURED:][:_NAMED]), encoding="utf-8")
    logo, annotations = work / "measured", coco / "instances_train2017.json"
    own = {"images": logo / "images", "annotations": logo / "boxes.json"}
    known = {"images": photos, "annotations": annotations, "only": listed}
    return [
        ("logo, where", load("ground-classes", own)),
        ("logo, what", load("name-classes", own)),
        ("mini-val, where", load("ground-classes", {**known, "absent": 0})),
        ("mini-val, what", load("name-classes", {**known, "only": some, "each": 1})),
        ("mini-val, which of two", load("lvis-refer", {**known, "objects": objects})),
    ]


def report(changes: dict[str, list[Change]]) -> None:
    """A line for each figure."""
    for name, several in changes.items():
        for one in several:
            change = one.difference
            print(
                f"{name:24} {one.name:40} {one.before:.3f} -> {one.after:.3f}  {change.value:+.3f} "
                f"[{change.low:+.3f}, {change.high:+.3f}]  n = {change.n}"
            )


def main() -> None:
    """Teaches, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--coco", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--objects", type=int, default=150, help="of mini-val, asked which of two they are")
    parser.add_argument("--json", type=Path)
    parser.add_argument("options", nargs="*", help="further options of openferret finetune, after --")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    photos = options.coco / "train2017"
    if not photos.is_dir():
        photos = options.work / "train2017"
        if not photos.is_dir():
            with tarfile.open(options.coco / "train2017.tar") as packed:
                packed.extractall(options.work, filter="data")
    content = json.loads((options.coco / "instances_train2017.json").read_text(encoding="utf-8"))
    pictures = sorted(content["images"], key=lambda one: int(one["id"]))
    minival = [one for one in pictures if is_minival(one)]
    learned = [one for one in pictures if not is_minival(one)][:_LEARNED]
    write_pictures(learned, photos, options.work / "learned")
    write_pictures(minival[:_MEASURED], photos, options.work / "measured")
    command = [
        *(sys.executable, "-m", "openferret", "finetune", "--resume"),
        *("--data", str(options.work / "learned" / "boxes.json")),
        *("--images", str(options.work / "learned" / "images"), "--out", str(options.work / "tuned")),
        *("--threads", str(options.threads), *options.options),
    ]
    started = time.perf_counter()
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - started
    changes: dict[str, list[Change]] = {}
    for name, benchmark in benchmarks_of(options.coco, photos, options.work, minival, options.objects):
        places = []
        for when, model, folder in (
            ("before", "kit", ensure_kit()),
            ("after", str(options.work / "tuned" / "model"), options.work / "tuned" / "model"),
        ):
            place = options.work / when / name.replace(", ", "-").replace(" ", "-")
            measure(load_model(model), folder, [benchmark], place)
            places.append(place)
        changes[name] = compare([benchmark], *places)
    print(f"fine-tuning, its own measurements included: {seconds / 60:.1f} minutes")
    report(changes)
    if options.json:
        figures = {name: [one.to_dict() for one in several] for name, several in changes.items()}
        options.json.write_text(
            json.dumps({"seconds": seconds, "figures": figures}, indent=2), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
