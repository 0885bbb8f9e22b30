"""A small source of pictures that differ, in COCO's layout, and a recipe for it."""

import json

import numpy as np
import yaml
from PIL import Image

from openferret.data.building.recipe import load_recipe

WIDTH, HEIGHT = 64, 48
NAMES = ("dog", "cat", "ball", "tree")


def scene(number):
    """A picture with large shapes, unlike that of any other number."""
    noise = Image.fromarray(np.random.default_rng(number).integers(0, 255, (6, 8, 3), np.uint8))
    return noise.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


def write_source(folder, count=12, broken=()):
    """`boxes.json` and `pictures/`; three things on each picture, of which the last is always a tree."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number in range(1, count + 1):
        name = f"{number:012d}.jpg"
        if "missing" not in broken or number != 1:
            scene(number).save(pictures / name, quality=95)
        images.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
        boxes = ([2, 3, 20, 30], [30, 5, 20 + number % 5, 20], [10, 20, 40, 25])
        for place, box in enumerate(boxes):
            category = 4 if place == 2 else 1 + (number + place) % 3
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": category, "bbox": box}
            annotations.append({**entry, "iscrowd": 0, "area": box[2] * box[3]})
    if "damaged" in broken:
        (pictures / f"{2:012d}.jpg").write_bytes(b"\xff\xd8\xff no picture")
    if "boxes" in broken:
        annotations[6]["bbox"] = [500, 5, 10, 10]
        annotations[7]["bbox"] = [30, 5, -10, 10]
    categories = [{"id": number, "name": name} for number, name in enumerate(NAMES, 1)]
    text = json.dumps({"categories": categories, "images": images, "annotations": annotations})
    file = folder / "boxes.json"
    file.write_text(text[: len(text) - 400] if "cut" in broken else text)
    return file


def recipe_content(folder, **changes):
    """What stands in a recipe for such a source."""
    source = {
        "kind": "coco_json",
        "root": str(folder / "boxes.json"),
        "pictures": str(folder / "pictures"),
        "options": {"exhaustive": True},
    }
    source |= changes.pop("source", {})
    return {"name": "small", "shard_size": 50, "sources": {"mine": source}, **changes}


def write_recipe(file, content):
    """The same as a file."""
    file.write_text(yaml.safe_dump(content))
    return file


def recipe_of(tmp_path, source, **more):
    """A recipe of one source, `mine`."""
    content = {"name": "one", "sources": {"mine": source}, **more}
    return load_recipe(write_recipe(tmp_path / "recipe.yaml", content))


def boxes_of(tmp_path, **more):
    """A recipe of six pictures of this module's own."""
    write_source(tmp_path / "source", 6)
    return load_recipe(write_recipe(tmp_path / "recipe.yaml", recipe_content(tmp_path / "source", **more)))


def problems_of(out):
    """What a build could not use."""
    return [json.loads(line) for line in (out / "problems.jsonl").read_text().splitlines()]
