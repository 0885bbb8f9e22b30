"""Does reading keep ahead of training? Answers a second of the loader alone, beside those of the loop's steps.

    python benchmarks/loader.py [--build DIR] [--workers 0 1 2] [--batches 40] [--out FILE.json]

A build is what `openferret data build` writes, pictures by path or in tar shards; without one, noise pictures with
masks are made and packed. Printed for each number of loaders: rows and answers a second, how many bytes a waiting row
takes with masks as run lengths and what they would take unfolded, and the peak memory of this process. With --step
SECONDS (of `benchmarks/train_step.py`, for as many answers) the share of a step that reading costs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from openferret.data.building.packing import pack_pictures
from openferret.data.files.atomic import write_json
from openferret.data.outlines import RunLengths
from openferret.data.schema import PictureReference, Sample, Turn
from openferret.data.storage.parquet import write_samples
from openferret.regions import Box
from openferret.train.batches.streaming import stream_batches
from openferret.train.recipes.reading import load_recipe
from openferret.train.running.memory import memory_peak
from openferret.train.running.setup import Run, set_up

PICTURES, EACH, WIDTH, HEIGHT = 60, 8, 640, 480


def make_build(folder: Path) -> Path:
    """Noise pictures in a tar, eight dialogues each, every region with its mask."""
    images = folder / "pictures"
    images.mkdir()
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    samples = []
    for number in range(PICTURES):
        noise = np.random.default_rng(number).integers(0, 255, (48, 64, 3), np.uint8)
        Image.fromarray(noise).resize((WIDTH, HEIGHT)).save(images / f"{number}.jpg", quality=90)
        picture = PictureReference(f"mine/{number}.jpg", WIDTH, HEIGHT, "mine", str(number))
        for kind in range(EACH):
            x, y = 120 + 40 * kind, 100 + 30 * kind
            mask = RunLengths.of(((columns - x) / 90) ** 2 + ((rows - y) / 70) ** 2 < 1)
            turns = Turn("user", "What is <region:0>?"), Turn("assistant", "It is a round thing on noise.")
            box = Box(x - 90, y - 70, x + 90, y + 70)
            samples.append(Sample(f"mine/{number}:{kind}", picture, turns, (box,), (mask,)))
    write_samples(folder / "samples-00000.parquet", samples)
    names = [f"mine/{number}.jpg" for number in range(PICTURES)]
    pack_pictures(names, {"mine": images}, folder / "pictures-00000.tar", folder / "mark.json")
    manifest = {
        "format": 1,
        "sha256": "loader-benchmark",
        "samples": len(samples),
        "shards": [{"file": "samples-00000.parquet", "samples": len(samples)}],
        "picture_files": ["pictures-00000.tar"],
        "sources": {"mine": {"pictures": str(images)}},
    }
    write_json(folder / "manifest.json", manifest)
    return folder


def measure(run: Run, workers: int, batches: int) -> dict[str, float]:
    """Rows and answers a second of so many batches, the first few not counted."""
    warm = 2 * max(workers, 1)
    coming = stream_batches(run.reader, run.plan, 1, 0, warm + batches, workers)
    for _ in range(warm):
        next(coming)
    began, cpu, rows, answers = time.perf_counter(), time.process_time(), 0, 0
    for (batch,) in coming:
        rows, answers = rows + len(batch.samples), answers + batch.answers
    seconds = time.perf_counter() - began
    found = {"rows_per_second": rows / seconds, "answers_per_second": answers / seconds}
    # The loaders' seconds of CPU are theirs; without any, reading happens in this process.
    return found if workers else found | {"answers_per_cpu_second": answers / (time.process_time() - cpu)}


def waiting_bytes(run: Run) -> tuple[int, int]:
    """Bytes of the masks of the first rows as they wait, and unfolded."""
    compact = unfolded = 0
    for planned in (row for rows in run.plan.passes(0, 0, 1) for row in rows):
        for sample in run.reader.gathered.samples(planned.samples):
            for mask in sample.masks:
                if mask is not None:
                    compact, unfolded = compact + len(mask.counts), unfolded + mask.width * mask.height
    return compact, unfolded


def main() -> None:
    """Prints a table, and writes it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--build", type=Path, help="a data set of `openferret data build`; else one is made")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--step", type=float, help="answers a second of training, to compare with")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        build = options.build or make_build(place)
        settings = [f"data.build=[{build}]", f"out={place / 'run'}", "batch.size=4", "batch.micro=4"]
        run = set_up(load_recipe("finetune", [*settings, "data.cache_features=false", "epochs=100"]))
        torch.set_num_threads(1)
        table = {workers: measure(run, workers, options.batches) for workers in options.workers}
        compact, unfolded = waiting_bytes(run)
        run.parallel.close()
    print(f"{'loaders':>7} {'rows/s':>8} {'answers/s':>10}" + (f" {'x step':>8}" if options.step else ""))
    for workers, row in table.items():
        ahead = f" {row['answers_per_second'] / options.step:8.1f}" if options.step else ""
        print(f"{workers:7} {row['rows_per_second']:8.1f} {row['answers_per_second']:10.1f}{ahead}")
        if "answers_per_cpu_second" in row:
            print(f"        one second of one core reads {row['answers_per_cpu_second']:.1f} answers")
    if unfolded:
        print(f"masks of a batch: {compact / 1e3:.1f} kB while they wait, {unfolded / 1e6:.1f} MB unfolded")
    peak = memory_peak(torch.device("cpu"))
    print(f"peak memory of this process: {peak / 1e9:.2f} GB, the model included")
    if options.out:
        content = {"loaders": table, "compact": compact, "unfolded": unfolded, "memory": peak}
        options.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
