"""Kit's speed on this machine: load, picture, prefill, tokens per second, second question, peak memory.

    python benchmarks/kit.py [--repeats 7] [--out FILE.json]

Every figure is the median of the repeats, and each is set beside what plain use would cost in the same run: a
second question beside a first one (picture encoded anew), eight regions asked together beside one by one. No
training may run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from openferret import Box, Ferret
from openferret.generation.decode import decode
from openferret.generation.questions import write_question
from openferret.prompts import DESCRIBE

PICTURE = Path(__file__).parents[1] / "examples" / "pictures" / "astronaut.jpg"


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Prints a table, and writes it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    Ferret.load()  # assembles Kit the first time, and imports what loading imports
    load = seconds(lambda: Ferret.load())
    ferret = Ferret.load()
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 300, (8, 2))
    boxes = [Box(x, y, x + 150, y + 150) for x, y in corners]
    scene = ferret.encode(PICTURE)
    scene.refer(boxes[0])
    question = write_question(ferret.loaded.processor, DESCRIBE, [], scene.image.size)
    first, second, together, apart, located, described, prefills, speeds = ([] for _ in range(8))
    for repeat in range(options.repeats):
        box = boxes[repeat % len(boxes)]
        first.append(seconds(lambda box=box: ferret.encode(PICTURE).refer(box)))
        second.append(seconds(lambda box=box: scene.refer(box)))
        together.append(seconds(lambda: scene.refer_many(boxes)))
        apart.append(seconds(lambda: [scene.refer(one) for one in boxes]))
        located.append(seconds(lambda: scene.ground("a woman", threshold=0.0)))
        described.append(seconds(scene.describe))
        written = decode(ferret.loaded.model, ferret.loaded.processor, scene.prefix, [question])[0]
        prefills.append(written.seconds["prefill"])
        speeds.append(len(written.ids) / written.seconds["decode"])
    figures = {
        "load, s": load,
        "first question on a picture, s": statistics.median(first),
        "second question on the same picture, s": statistics.median(second),
        "first / second": statistics.median(a / b for a, b in zip(first, second, strict=True)),
        "eight regions together, s": statistics.median(together),
        "eight regions one by one / together": statistics.median(
            a / b for a, b in zip(apart, together, strict=True)
        ),
        "a phrase located, s": statistics.median(located),
        "a grounded description, s": statistics.median(described),
        "prefill of a question behind the picture, s": statistics.median(prefills),
        "tokens per second (locations included)": statistics.median(speeds),
        "peak memory, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    for name, value in figures.items():
        print(f"{name:42} {value:8.2f}")
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
