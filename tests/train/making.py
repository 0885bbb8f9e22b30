"""Small runs: a build of random pictures, tiny models, a recipe for both."""

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from openferret.data.schema import PictureReference, Provenance, Sample, Turn
from openferret.regions import Box, Point
from openferret.train.recipes.recipe import BatchRecipe, DataRecipe, Every, ModelRecipe, TrainingRecipe

WIDTH, HEIGHT = 64, 48
NAMES = ("a dog", "a red ball", "the picture", "a box")


def picture(number: int) -> Image.Image:
    """Large soft shapes, unlike those of any other number; the same on every machine."""
    noise = Image.fromarray(np.random.default_rng(number).integers(0, 255, (6, 8, 3), np.uint8))
    return noise.resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)


def reference(number: int) -> PictureReference:
    return PictureReference(f"mine/{number}.png", WIDTH, HEIGHT, "mine", str(number))


def sample(number: int, kind: int) -> Sample:
    """One of five sorts of dialogue about picture `number`."""
    box = Box(4 + number % 7, 5, 30 + number % 11, 40)
    name, seen = NAMES[(number + kind) % 4], reference(number)
    turns, regions, task = [
        (("What is <region:0>?", f"{name}."), (box,), "object"),
        ((f"Where is {name}?", f"<phrase>{name} <box:0>."), (box,), "ground"),
        (("Is there a dog in the picture?", "No."), (), "presence"),
        (
            (
                "What is <region:0> or <region:1>?",
                f"{name}.",
                "Where is the box?",
                "<phrase>the box <box:0>.",
            ),
            (box, Point(10, 12)),
            "chat",
        ),
        (("How many are there?", "One."), (), "count"),
    ][kind % 5]
    written = tuple(Turn("assistant" if place % 2 else "user", text) for place, text in enumerate(turns))
    return Sample(f"mine/{number}:{kind}", seen, written, regions, provenance=Provenance("mine"), task=task)


def write_build(folder: Path, pictures: int = 12, each: int = 5, pack: bool = False) -> Path:
    """What `openferret data build` leaves, without the build."""
    from openferret.data.files.atomic import write_json
    from openferret.data.storage.parquet import write_samples

    images = folder / "pictures"
    images.mkdir(parents=True)
    for number in range(pictures):
        picture(number).save(images / f"{number}.png")
    samples = [sample(number, kind) for kind in range(each) for number in range(pictures)]
    write_samples(folder / "samples-00000.parquet", samples)
    tars = []
    if pack:
        from openferret.data.building.packing import pack_pictures

        names = [f"mine/{number}.png" for number in range(pictures)]
        pack_pictures(names, {"mine": images}, folder / "pictures-00000.tar", folder / "mark.json")
        tars = ["pictures-00000.tar"]
        for number in range(pictures):
            (images / f"{number}.png").unlink()
    manifest = {
        "format": 1,
        "sha256": f"{pictures}x{each}",
        "samples": len(samples),
        "shards": [{"file": "samples-00000.parquet", "samples": len(samples)}],
        "picture_files": tars,
        "sources": {"mine": {"pictures": str(images)}},
    }
    write_json(folder / "manifest.json", manifest)
    return folder


def write_start(tiny, folder: Path, name: str = "kit") -> Path:
    """A tiny model as a folder."""
    loaded = tiny.loaded(name)
    loaded.model.save_pretrained(folder)
    loaded.processor.save_pretrained(folder)
    return folder


def recipe(build: Path, start: Path, out: Path, **changes) -> TrainingRecipe:
    """A run of a few steps, float32 and without processes of its own for loading."""
    made = TrainingRecipe(
        name="small",
        out=out,
        model=ModelRecipe(start=str(start)),
        data=DataRecipe((build,), workers=0, dialogues=3, max_length=256),
        batch=BatchRecipe(size=4, micro=2, bucket=2),
        steps=4,
        precision="fp32",
        every=Every(checkpoint=2),
        threads=1,
    )
    return functools.reduce(_changed, changes.items(), made)


def _changed(made: TrainingRecipe, change) -> TrainingRecipe:
    name, value = change
    first, _, rest = name.partition("__")
    return replace(made, **{first: replace(getattr(made, first), **{rest: value}) if rest else value})
