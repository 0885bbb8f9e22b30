"""A set of the paper's make-up built by rules: seconds and samples per second by stage, peak memory, linearity.

    python benchmarks/data_build.py [--millions 0.1 0.3 1.1] [--workers 2] [--out FILE.json]
    python benchmarks/data_build.py --folder DIR --prepare    # only makes the sources; without --prepare they are used

The sources are made up, in the published layouts: of 1.1 M samples on 108,000 pictures, 678,000 are of single
objects, 177,000 of relationships and descriptions, 192,000 dialogues, 95,000 negatives. Pictures are not opened;
their hashes are given and compared with those of 50,000 evaluation pictures. Beside each build, in the same run, a
plain loop does the least that anyone would write: read the JSON whole, format one question and answer an
annotation, write JSON lines. It checks nothing, chooses nothing and keeps all in memory.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from openferret.data.building.pipeline import build
from openferret.data.building.recipe import load_recipe

FULL = 1_100_000
PICTURES = 108_000
EVALUATED = 50_000
PARTS = {
    "object": 678_000,
    "relationship": 88_500,
    "description": 88_500,
    "dialogue": 192_000,
    "presence": 95_000,
}
NOUNS = (
    *(
        "man",
        "woman",
        "dog",
        "cat",
        "car",
        "tree",
        "table",
        "chair",
        "bottle",
        "cup",
        "plate",
        "book",
        "lamp",
    ),
    *(
        "window",
        "door",
        "shirt",
        "hat",
        "bag",
        "ball",
        "bus",
        "train",
        "horse",
        "cow",
        "sheep",
        "bird",
        "boat",
    ),
    *("truck", "bench", "clock", "vase", "sofa", "bed", "sink", "oven", "phone", "laptop", "mouse", "kite"),
)
ADJECTIVES = ("red", "blue", "green", "white", "black", "small", "large", "old", "wooden", "round")
PREDICATES = ("on", "under", "beside", "behind", "near", "holding", "wearing", "above")
WIDTH, HEIGHT = 640, 480


def main() -> None:
    """Prints a table for each size, and writes all figures as JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--millions", type=float, nargs="+", default=[0.1, 0.3, 1.1])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--folder", type=Path, help="Keeps the sources for the next run; a temporary folder by default."
    )
    parser.add_argument("--prepare", action="store_true", help="Only makes the sources in --folder.")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.prepare and not options.folder:
        parser.error("--prepare needs --folder")
    figures = []
    with tempfile.TemporaryDirectory() as temporary:
        for millions in options.millions:
            sources = prepared(options.folder or Path(temporary), millions)
            if not options.prepare:
                figures.append(measure(sources, millions * 1e6 / FULL, options.workers))
                show(figures[-1])
            if not options.folder:
                shutil.rmtree(sources)
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def prepared(folder: Path, millions: float) -> Path:
    """The sources of a size, made unless they are there."""
    sources = folder / f"sources-{millions}"
    if not (sources / "whole").exists():
        shutil.rmtree(sources, ignore_errors=True)
        sources.mkdir(parents=True)
        apart(make_sources, sources, millions * 1e6 / FULL)
        (sources / "whole").touch()
    return sources


def apart(function: Callable[..., Any], *arguments: object) -> Any:
    """Runs it in a process of its own, whose memory is not counted as the build's."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def measure(folder: Path, scale: float, workers: int) -> dict[str, Any]:
    """One size: builds the sources, and runs the plain loop on the same files."""
    recipe = load_recipe(write_recipe(folder, scale))
    shutil.rmtree(folder / "out", ignore_errors=True)
    rows, plain, plain_cpu = apart(timed_plain_loop, folder)
    steps: dict[str, list[float]] = {}

    def note(step: str, done: int, total: int) -> None:
        steps.setdefault(step, []).append(time.perf_counter())

    with peak_memory() as peak:
        began, cpu = time.perf_counter(), cpu_seconds()
        manifest = build(recipe, folder / "out", workers, progress=note)
        ended, cpu = time.perf_counter(), cpu_seconds() - cpu
    starts = [*(times[0] for times in steps.values()), ended]
    seconds = {step: starts[place + 1] - starts[place] for place, step in enumerate(steps)}
    return {
        "samples": manifest["samples"],
        "pictures": manifest["pictures"],
        "workers": workers,
        "cores": os.cpu_count(),
        "seconds": ended - began,
        "seconds by stage": {"preparing": starts[0] - began, **seconds},
        "samples per second": manifest["samples"] / (ended - began),
        "peak memory of all processes, MiB": peak() / 2**20,
        "CPU seconds of all processes": cpu,
        "plain loop, seconds": plain,
        "plain loop, CPU seconds": plain_cpu,
        "plain loop, rows": rows,
        "build / plain loop, CPU seconds a row": cpu / manifest["samples"] / (plain_cpu / rows),
        "evaluation pictures kept out": manifest["leaks"],
        "problems": manifest["problems"],
        "counts": {f"{one['source']} {one['task']}": one["samples"] for one in manifest["counts"]},
        "sha256": manifest["sha256"],
    }


def show(figures: dict[str, Any]) -> None:
    """One size as text."""
    for name, value in figures.items():
        shown = value
        if isinstance(value, float):
            shown = f"{value:,.2f}"
        elif isinstance(value, dict):
            shown = ", ".join(
                f"{key} {one:,.1f}" if isinstance(one, float) else f"{key} {one}"
                for key, one in value.items()
            )
        print(f"{name:36} {shown}")
    print(flush=True)


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


@contextmanager
def peak_memory() -> Iterator[Callable[[], int]]:
    """The largest sum of resident bytes of this process and its children while the block runs."""
    most, stop = 0, threading.Event()
    own = psutil.Process()

    def watch() -> None:
        nonlocal most
        while not stop.wait(0.2):
            total = 0
            for process in [own, *own.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.Error:  # it has just ended
                    continue
            most = max(most, total)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: most
    finally:
        stop.set()
        thread.join()


def make_sources(folder: Path, scale: float) -> None:
    """Visual Genome's, Objects365's and LLaVA's layouts, hashes, and an evaluation set; all by a seed."""
    chance = random.Random(0)
    pictures = round(PICTURES * scale)
    seven_tenths = pictures * 7 // 10
    make_visual_genome(folder / "vg", range(1, seven_tenths + 1), chance)
    make_objects365(folder / "o365", range(seven_tenths + 1, pictures + 1), chance)
    (folder / "llava").mkdir()
    dialogues = (
        {"id": f"{n:012d}-{n}", **dialogue(n % pictures + 1, chance)}
        for n in range(round(PARTS["dialogue"] * scale))
    )
    write_list(folder / "llava" / "llava_instruct_150k.json", dialogues)
    with (folder / "hashes.tsv").open("w") as file:
        file.writelines(f"{n}.jpg\t{chance.getrandbits(64):016x}\n" for n in range(1, pictures + 1))
    (folder / "evaluation.txt").write_text("".join(f"{n}\n" for n in range(1, pictures, 1000)))
    with (folder / "evaluation.tsv").open("w") as file:
        file.writelines(f"{n + 10_000_000}\t{chance.getrandbits(64):016x}\n" for n in range(EVALUATED))


def make_visual_genome(folder: Path, numbers: range, chance: random.Random) -> None:
    """Six objects, two relationships and two descriptions a picture."""
    folder.mkdir()
    objects = [[thing(n, place, chance) for place in range(7)] for n in numbers]
    pairs = list(zip(numbers, objects, strict=True))
    url = "https://example.org/VG_100K/{}.jpg"
    write_list(
        folder / "image_data.json",
        (
            {"image_id": n, "width": WIDTH, "height": HEIGHT, "url": url.format(n), "coco_id": None}
            for n in numbers
        ),
    )
    write_list(folder / "objects.json", ({"image_id": n, "objects": things} for n, things in pairs))
    write_list(
        folder / "relationships.json",
        ({"image_id": n, "relationships": relations(n, things, chance)} for n, things in pairs),
    )
    write_list(
        folder / "region_descriptions.json",
        ({"id": n, "regions": descriptions(n, things, chance)} for n, things in pairs),
    )


def thing(picture: int, place: int, chance: random.Random) -> dict[str, Any]:
    """An object of Visual Genome."""
    x, y = chance.randrange(500), chance.randrange(380)
    size = {"x": x, "y": y, "w": chance.randrange(20, 140), "h": chance.randrange(20, 100)}
    noun = NOUNS[(picture * 7 + place * 5) % len(NOUNS)]
    return {"object_id": picture * 10 + place, "names": [noun], "synsets": [f"{noun}.n.01"], **size}


def relations(picture: int, things: list[dict[str, Any]], chance: random.Random) -> list[dict[str, Any]]:
    """Two of a picture."""
    return [
        {
            "relationship_id": picture * 10 + place,
            "predicate": chance.choice(PREDICATES),
            "subject": {**things[place], "name": things[place]["names"][0]},
            "object": {**things[place + 1], "name": things[place + 1]["names"][0]},
        }
        for place in range(2)
    ]


def descriptions(picture: int, things: list[dict[str, Any]], chance: random.Random) -> list[dict[str, Any]]:
    """Two of a picture."""
    return [
        {
            "region_id": picture * 10 + place,
            "image_id": picture,
            "phrase": f"a {chance.choice(ADJECTIVES)} {things[place]['names'][0]} in the sun",
            "x": things[place]["x"],
            "y": things[place]["y"],
            "width": things[place]["w"],
            "height": things[place]["h"],
        }
        for place in range(2)
    ]


def make_objects365(folder: Path, numbers: range, chance: random.Random) -> None:
    """Eight objects a picture, of 365 categories."""
    folder.mkdir()
    names = [*NOUNS, *(f"{adjective} {noun}" for adjective in ADJECTIVES for noun in NOUNS)][:365]
    images = [{"id": n, "width": WIDTH, "height": HEIGHT, "file_name": f"patch0/{n}.jpg"} for n in numbers]
    annotations = [
        {
            "id": n * 10 + place,
            "image_id": n,
            "category_id": chance.randrange(len(names)) + 1,
            "bbox": [
                chance.randrange(500),
                chance.randrange(380),
                chance.randrange(20, 140),
                chance.randrange(20, 100),
            ],
            "iscrowd": 0,
            "area": 1,
        }
        for n in numbers
        for place in range(8)
    ]
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "zhiyuan_objv2_train.json").write_text(json.dumps(content))


def dialogue(picture: int, chance: random.Random) -> dict[str, Any]:
    """Two questions and answers."""
    turns = []
    for turn in range(2):
        nouns = chance.sample(NOUNS, 4)
        asked = f"What might happen to the {nouns[0]} next to the {nouns[1]}?"
        said = f"The {nouns[0]} may stay with the {nouns[2]}, " * 3 + f"while the {nouns[3]} is moved away."
        turns += [
            {"from": "human", "value": "<image>\n" * (turn == 0) + asked},
            {"from": "gpt", "value": said},
        ]
    return {"image": f"{picture}.jpg", "conversations": turns}


def write_list(path: Path, items: Iterator[dict[str, Any]]) -> None:
    """A JSON list, written as it comes."""
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        for number, item in enumerate(items):
            file.write(("," if number else "") + json.dumps(item))
        file.write("]")


def write_recipe(folder: Path, scale: float) -> Path:
    """The paper's make-up at a scale."""

    def most(task: str, share: float = 1.0) -> dict[str, int]:
        return {"cap": round(PARTS[task] * scale * share)}

    genome = {
        "object": most("object", 0.66),
        "relationship": most("relationship"),
        "description": most("description"),
    }
    content = {
        "name": "synthetic",
        "check_pictures": "none",
        "sources": {
            "vg": {"kind": "visual_genome", "root": str(folder / "vg"), "tasks": genome},
            "o365": {
                "kind": "objects365",
                "root": str(folder / "o365"),
                "tasks": {"object": most("object", 0.34), "presence": most("presence")},
            },
            "llava": {"kind": "llava_instruct", "root": str(folder / "llava"), "tasks": ["dialogue"]},
        },
        "leaks": {
            "sets": {
                "evaluation": {
                    "of": "visual_genome",
                    "names": str(folder / "evaluation.txt"),
                    "hashes": str(folder / "evaluation.tsv"),
                }
            }
        },
    }
    for source in content["sources"].values():
        source["hashes"] = str(folder / "hashes.tsv")
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def timed_plain_loop(folder: Path) -> tuple[int, float, float]:
    """Rows, seconds and CPU seconds of the plain loop; what it wrote is removed."""
    began, cpu = time.perf_counter(), cpu_seconds()
    rows = plain_loop(folder)
    taken = rows, time.perf_counter() - began, cpu_seconds() - cpu
    (folder / "plain.jsonl").unlink()
    return taken


def plain_loop(folder: Path) -> int:
    """What anyone would write first; how many rows it made."""
    rows = 0
    with (folder / "plain.jsonl").open("w", encoding="utf-8") as file:

        def write(picture: object, question: str, answer: str, box: list[int]) -> None:
            nonlocal rows
            said = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
            file.write(
                json.dumps({"id": rows, "image": f"{picture}.jpg", "conversations": said, "box": box}) + "\n"
            )
            rows += 1

        for entry in json.loads((folder / "vg" / "objects.json").read_text()):
            for one in entry["objects"]:
                box = [one["x"], one["y"], one["x"] + one["w"], one["y"] + one["h"]]
                write(entry["image_id"], "What is <box>?", one["names"][0], box)
        for entry in json.loads((folder / "vg" / "relationships.json").read_text()):
            for one in entry["relationships"]:
                said = f"{one['subject']['name']} {one['predicate']} {one['object']['name']}"
                write(
                    entry["image_id"],
                    "How are they related?",
                    said,
                    [one["subject"]["x"], one["subject"]["y"]],
                )
        for entry in json.loads((folder / "vg" / "region_descriptions.json").read_text()):
            for one in entry["regions"]:
                write(entry["id"], "Describe <box>.", one["phrase"], [one["x"], one["y"]])
        content = json.loads((folder / "o365" / "zhiyuan_objv2_train.json").read_text())
        names = {one["id"]: one["name"] for one in content["categories"]}
        for one in content["annotations"]:
            write(one["image_id"], "What is <box>?", names[one["category_id"]], one["bbox"])
        for entry in json.loads((folder / "llava" / "llava_instruct_150k.json").read_text()):
            file.write(json.dumps(entry) + "\n")
            rows += 1
    return rows


if __name__ == "__main__":
    main()
