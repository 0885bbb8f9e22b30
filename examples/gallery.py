"""A gallery of random pictures with every verb's answer drawn, good and bad alike.

    python examples/gallery.py coco --annotations instances.json --images DIR --only ids.txt --out FOLDER
    python examples/gallery.py flickr30k --root DIR --images DIR --split-file val.txt --out FOLDER

Writes FOLDER/README.md and a JPEG for each answer. With `--shareable`, only pictures whose licence lets a drawing
be passed on (COCO names it), each with its source.
"""

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from openferret import Box, Ferret, Point, Scene
from openferret.answer import Answer
from openferret.coordinates import denormalize_box
from openferret.drawing import draw_answer
from openferret.eval.tasks.entities import read_pictures, single_regions
from openferret.images import load_image
from openferret.regions import Region

SHAREABLE = {"Attribution License", "Attribution-ShareAlike License", "No known copyright restrictions"}
LONGEST_SIDE = 460  # pixels of a drawing


@dataclass(frozen=True)
class Exhibit:
    """A picture, two boxes to point at, two phrases to look for, and where it comes from."""

    file: Path
    boxes: tuple[Box, ...]
    phrases: tuple[str, ...]
    credit: str = ""


def coco_exhibits(annotations: Path, images: Path, only: Path | None, shareable: bool) -> Iterator[Exhibit]:
    """Pictures of a COCO file; phrases are two of their classes."""
    content = json.loads(annotations.read_text(encoding="utf-8"))
    licences = {one["id"]: one for one in content.get("licenses", [])}
    names = {one["id"]: one["name"] for one in content["categories"]}
    wanted = None if only is None else set(only.read_text(encoding="utf-8").split())
    for picture in content["images"]:
        licence = licences.get(picture.get("license"), {"name": "unknown", "url": ""})
        items = [one for one in content["annotations"] if one["image_id"] == picture["id"]]
        items = sorted((one for one in items if not one["iscrowd"]), key=lambda one: -one["area"])
        if (
            not items
            or (wanted is not None and str(picture["id"]) not in wanted)
            or (shareable and licence["name"] not in SHAREABLE)
        ):
            continue
        boxes = [Box(x, y, x + w, y + h) for x, y, w, h in (one["bbox"] for one in items[:2])]
        classes = list(dict.fromkeys(names[one["category_id"]] for one in items))[:2]
        source = (
            f"[{licence['name']}]({licence['url']}), [source]({picture.get('flickr_url', '')}); boxes drawn"
        )
        yield Exhibit(images / picture["file_name"], tuple(boxes), tuple(classes), source)


def flickr_exhibits(root: Path, images: Path, split_file: Path) -> Iterator[Exhibit]:
    """Pictures of a Flickr30k Entities split; phrases are two of their captions'."""
    for picture in read_pictures(root, split_file):
        file = images / f"{picture.name}.jpg"
        size = load_image(file).size
        boxes = [denormalize_box(box, *size) for box, _ in single_regions(picture)][:2]
        phrases = [target.words for sentence in picture.sentences[:1] for target in sentence.targets][:2]
        yield Exhibit(file, tuple(boxes), tuple(phrases))


def answers(scene: Scene, exhibit: Exhibit) -> Iterator[tuple[str, Answer, Sequence[Region]]]:
    """Every verb on one picture: its question, its answer and what was pointed at."""
    for box in exhibit.boxes[:1]:
        yield "refer: what is this? (box)", scene.refer(box), [box]
    for box in exhibit.boxes[1:]:
        point = Point((box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2)
        yield "refer: what is this? (point)", scene.refer(point), [point]
    if exhibit.phrases:
        asked = list(exhibit.phrases)
        yield f"ground: where is {', '.join(asked)}?", scene.ground(asked), []
    yield "describe", scene.describe(), []
    yield "detect", scene.detect(), []


def save(drawing: Image.Image, file: Path) -> None:
    """Writes a small JPEG."""
    drawing.thumbnail((LONGEST_SIDE, LONGEST_SIDE * 2))
    drawing.convert("RGB").save(file, "JPEG", quality=72, optimize=True)


def main() -> None:
    """Chooses pictures, asks everything, writes the gallery."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", choices=["coco", "flickr30k"])
    for name in ("--annotations", "--root", "--split-file", "--only"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="kit")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shareable", action="store_true")
    options = parser.parse_args()
    if options.source == "coco":
        found = list(coco_exhibits(options.annotations, options.images, options.only, options.shareable))
    else:
        found = list(flickr_exhibits(options.root, options.images, options.split_file))
    chosen = random.Random(options.seed).sample(found, min(options.count, len(found)))
    options.out.mkdir(parents=True, exist_ok=True)
    ferret = Ferret.load(options.model)
    lines = [
        "# Gallery",
        "",
        f"{len(chosen)} pictures drawn at random (seed {options.seed}) from those that Kit was never trained on, "
        "with every verb's answer, good and bad alike. Made by `examples/gallery.py`.",
    ]
    for exhibit in chosen:
        scene = ferret.encode(exhibit.file)
        lines += ["", f"## {exhibit.file.stem}", "", exhibit.credit, ""]
        for number, (question, answer, regions) in enumerate(answers(scene, exhibit)):
            file = options.out / f"{exhibit.file.stem}-{number}.jpg"
            save(draw_answer(scene.image, answer, regions, title=question), file)
            lines.append(f'<img src="{file.name}" alt="{question}" width="260">')
    (options.out / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(chosen)} pictures in {options.out}")


if __name__ == "__main__":
    main()
