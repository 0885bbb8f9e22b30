"""Supervised answers a second: this package's loop beside the plainest loop over transformers, on the same dialogues.

    python benchmarks/train_step.py [--build DIR] [--repeats 3] [--threads 2] [--out FILE.json]

Both teach Kit the same dialogues, 16 answers a step. The plain loop pads each dialogue with its own picture to one
length and lets the model compute its loss over the whole vocabulary at every place:

    plain       every weight of language model, projector and sampler, float32
    plain+lora  the same with low-rank updates of the language model
    ours        low-rank updates, dialogues share their picture's prefix, rows sorted by length, the head at learned
                places only, bfloat16 where it is safe, features of the frozen tower from disk
    ours-fp32   the same in float32
    ours-alone  as ours, but with one dialogue a row: what the shared prefix is worth

Each runs in a process of its own, in turn (plain, ours, plain, ours ...), so that peak memory is its own and a busy
machine slows all alike. Printed: medians of answers a second, their ratio (by the clock, and by seconds of CPU, which
other work on the machine disturbs less), peak memory, floating-point operations of an answer, and what the machine's
matrix products reach at most in the same run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from openferret.data.files.atomic import write_json
from openferret.data.loading.dataset import Dataset
from openferret.data.schema import PictureReference, Sample, Turn
from openferret.data.storage.parquet import write_samples
from openferret.loading import load_model
from openferret.regions import Box
from openferret.train.batches.wording import DialogueWriter
from openferret.train.recipes.reading import load_recipe
from openferret.train.recipes.recipe import TrainingRecipe
from openferret.train.running.callbacks import Callback, StepReport
from openferret.train.running.loop import run_training
from openferret.train.running.memory import keep_memory, memory_peak
from openferret.train.running.setup import set_up

PICTURES, EACH, ANSWERS, TOGETHER = 8, 16, 16, 8
WARM, TIMED = 1, 2
NAMES = ("a man in a blue shirt", "the brown dog", "a bicycle", "two people near the water", "the red car")


def make_build(folder: Path) -> Path:
    """A build of noise pictures whose dialogues are as long as those of GRIT."""
    images = folder / "pictures"
    images.mkdir()
    samples = []
    for number in range(PICTURES):
        noise = np.random.default_rng(number).integers(0, 255, (12, 16, 3), np.uint8)
        Image.fromarray(noise).resize((640, 480)).save(images / f"{number}.jpg")
        picture = PictureReference(f"mine/{number}.jpg", 640, 480, "mine", str(number))
        for kind in range(EACH):
            name = NAMES[(number + kind) % len(NAMES)]
            box = Box(20 + 9 * kind, 30 + 5 * kind, 220 + 9 * kind, 250 + 7 * kind)
            question, answer = [
                ("What is <region:0>?", f"It is {name}."),
                (f"Where is {name}?", f"<phrase>{name} <box:0>."),
                ("What is <region:0> doing?", f"It is {name}, standing in front of a house and waiting."),
                (
                    "Describe the picture.",
                    f"There is <phrase>{name} <box:0>, a street with some cars and people, and trees behind it.",
                ),
            ][kind % 4]
            turns = Turn("user", question), Turn("assistant", answer)
            samples.append(Sample(f"mine/{number}:{kind}", picture, turns, (box,)))
    order = np.random.default_rng(0).permutation(len(samples))
    write_samples(folder / "samples-00000.parquet", [samples[place] for place in order])
    write_json(
        folder / "manifest.json",
        {
            "format": 1,
            "sha256": "benchmark",
            "samples": len(samples),
            "shards": [{"file": "samples-00000.parquet", "samples": len(samples)}],
            "picture_files": [],
            "sources": {"mine": {"pictures": str(images)}},
        },
    )
    return folder


def our_recipe(build: Path, out: Path, way: str, threads: int) -> TrainingRecipe:
    """The shipped recipe, cut to a few steps."""
    alone = way == "ours-alone"
    settings = [
        f"data.build=[{build}]",
        f"out={out}",
        f"steps={WARM + TIMED}",
        f"threads={threads}",
        f"batch.size={ANSWERS if alone else ANSWERS // TOGETHER}",
        f"batch.micro={TOGETHER if alone else 1}",
        f"data.dialogues={1 if alone else TOGETHER}",
        f"precision={'fp32' if way == 'ours-fp32' else 'bf16'}",
        "batch.bucket=8",
        "data.mirror=0",  # the plain loop has none
        "data.workers=0",  # so that this process's seconds of CPU are all of it
        "every.checkpoint=0",
    ]
    return load_recipe("finetune", settings)


class Timer(Callback):
    """Answers and seconds of the steps after the warm-up."""

    def __init__(self) -> None:
        self.answers, self.seconds, self.cpu = 0, 0.0, 0.0
        self._before = time.process_time()

    def on_step(self, report: StepReport) -> None:
        """Adds a step up."""
        now = time.process_time()
        if report.step > WARM:
            self.answers += report.answers
            self.seconds += report.seconds
            self.cpu += now - self._before
        self._before = now


def run_ours(build: Path, way: str, threads: int) -> dict[str, float]:
    """The real loop, its loader and bookkeeping included."""
    with tempfile.TemporaryDirectory() as out:
        timer = Timer()
        peak = PeakBeforeEnd()
        run_training(our_recipe(build, Path(out), way, threads), (timer, peak))
    return {"answers": timer.answers, "seconds": timer.seconds, "cpu": timer.cpu, "memory": peak.memory}


class PeakBeforeEnd(Callback):
    """Memory of training alone: writing the model afterwards is no part of a step."""

    memory = 0

    def on_step(self, report: StepReport) -> None:
        """Keeps the latest."""
        self.memory = report.memory


def plain_batches(build: Path, loaded: Any) -> Iterator[dict[str, Any]]:
    """Eight dialogues at a time as the processor gives them, with labels: each with its own picture."""
    dataset = Dataset.open(build)
    writer = DialogueWriter(loaded.processor, loaded.model.config)
    prefix = writer.prefix()
    waiting: list[Any] = []
    for sample in dataset.samples():
        dialogue = writer.write(sample, 0)
        waiting.append((dataset.load_picture(sample.picture), dialogue))
        if len(waiting) < TOGETHER:
            continue
        rows = [prefix + list(dialogue.ids) for _, dialogue in waiting]
        goals = [[-100] * len(prefix) + [-100, *dialogue.labels[:-1]] for _, dialogue in waiting]
        length = max(map(len, rows))
        regions = [(region, one.size, k) for k, (one, d) in enumerate(waiting) for region in d.regions]
        geometry = loaded.processor.region_geometry([r for r, _, _ in regions], [s for _, s, _ in regions])
        yield {
            "input_ids": torch.tensor([row + [0] * (length - len(row)) for row in rows]),
            "attention_mask": torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows]),
            "labels": torch.tensor([row + [-100] * (length - len(row)) for row in goals]),
            "pixel_values": torch.from_numpy(loaded.processor.pixel_values([one for one, _ in waiting])),
            "region_points": torch.from_numpy(geometry.points),
            "region_anchors": [torch.from_numpy(one) for one in geometry.anchors],
            "region_neighbors": [torch.from_numpy(one) for one in geometry.neighbors],
            "region_picture": torch.tensor([k for _, _, k in regions]),
        }
        waiting = []


def run_plain(build: Path, way: str, threads: int) -> dict[str, float]:
    """What one would write with transformers in twenty lines."""
    torch.set_num_threads(threads)
    loaded = load_model("kit", dtype=torch.float32, engine="reference")
    model = prepare_plain(loaded.model, way)
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=2e-5)
    batches = plain_batches(build, loaded)
    seconds, cpu, passes = 0.0, 0.0, ANSWERS // TOGETHER
    for step in range(WARM + TIMED):
        began, cpu_before = time.perf_counter(), time.process_time()
        for _ in range(passes):
            (model(**next(batches)).loss / passes).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds += (time.perf_counter() - began) * (step >= WARM)
        cpu += (time.process_time() - cpu_before) * (step >= WARM)
    peak = memory_peak(torch.device("cpu"))
    return {"answers": ANSWERS * TIMED, "seconds": seconds, "cpu": cpu, "memory": peak}


def prepare_plain(model: Any, way: str) -> Any:
    """What is trained: the language model, the projector and the sampler, or updates in the first's place."""
    parts = model.model
    model.requires_grad_(False)
    for part in (parts.projector, parts.sampler, parts.language_model):
        part.requires_grad_(True)
    if way == "plain+lora":
        from peft import LoraConfig, inject_adapter_in_model

        parts.language_model.requires_grad_(False)
        inject_adapter_in_model(
            LoraConfig(r=16, lora_alpha=32, target_modules=r".*language_model.*_proj"), model
        )
    return model.train()


def count_flops(build: Path, way: str, threads: int) -> float:
    """Floating-point operations of a step of 16 answers, forward and backward, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        if way.startswith("plain"):
            loaded = load_model("kit", dtype=torch.float32, engine="reference")
            model = prepare_plain(loaded.model, way)
            batches = plain_batches(build, loaded)
            for _ in range(ANSWERS // TOGETHER):
                model(**next(batches)).loss.backward()
            return float(counter.get_total_flops())
        with tempfile.TemporaryDirectory() as out:
            run = set_up(our_recipe(build, Path(out), way, threads))
            features = counter.get_total_flops()  # of filling the cache, once for all epochs
            module, answers = run.module.train(), 0
            for planned in run.plan.passes(0, 0, 1):
                batch = run.reader.batch(planned)
                module(batch, module.counts(batch))[0].backward()
                answers += batch.answers
            return float(counter.get_total_flops() - features) * ANSWERS / answers


def matmul_ceiling(threads: int, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a product of two 1536 x 1536 matrices, the best of some."""
    torch.set_num_threads(threads)
    one = torch.randn(1536, 1536, dtype=dtype)
    best = 0.0
    for _ in range(5):
        began = time.perf_counter()
        one @ one
        best = max(best, 2 * 1536**3 / (time.perf_counter() - began))
    return best


def child(build: Path, way: str, threads: int) -> dict[str, float]:
    """One way in this process."""
    if way == "ceiling":
        return {name: matmul_ceiling(threads, getattr(torch, name)) for name in ("float32", "bfloat16")}
    if way.startswith("flops:"):
        return {"flops": count_flops(build, way.removeprefix("flops:"), threads)}
    keep_memory()  # for the plain loop too: without it, it is slower still
    return run_plain(build, way, threads) if way.startswith("plain") else run_ours(build, way, threads)


def in_a_process(build: Path, way: str, threads: int) -> dict[str, float]:
    """One way in a process of its own."""
    command = [sys.executable, __file__, "--build", str(build), "--threads", str(threads), "--way", way]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Prints a table, and writes it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--build", type=Path, help="a data set of `openferret data build`; else one is made")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--ways", nargs="+", default=["plain", "plain+lora", "ours", "ours-fp32", "ours-alone"]
    )
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        build = options.build or make_build(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        if options.way:
            print(json.dumps(child(build, options.way, options.threads)))
            return
        seen: dict[str, list[dict[str, float]]] = {way: [] for way in options.ways}
        for _ in range(options.repeats):
            for way in options.ways:
                seen[way].append(in_a_process(build, way, options.threads))
                print(way, seen[way][-1], file=sys.stderr)
        ceiling = in_a_process(build, "ceiling", options.threads)
        flops = {way: in_a_process(build, f"flops:{way}", options.threads)["flops"] for way in options.ways}
    speeds = {way: [one["answers"] / one["seconds"] for one in own] for way, own in seen.items()}
    base = options.ways[0]
    table = {
        way: {
            "answers_per_second": statistics.median(speeds[way]),
            "times_plain": statistics.median(
                mine / plain for mine, plain in zip(speeds[way], speeds[base], strict=True)
            ),
            "times_plain_cpu": statistics.median(
                (mine["answers"] / mine["cpu"]) / (plain["answers"] / plain["cpu"])
                for mine, plain in zip(seen[way], seen[base], strict=True)
            ),
            "memory_bytes": statistics.median(one["memory"] for one in seen[way]),
            "flops_per_answer": flops[way] / ANSWERS,
            "flops_per_second": statistics.median(speeds[way]) * flops[way] / ANSWERS,
        }
        for way in options.ways
    }
    heads = ("way", "answers/s", f"x {base}", "in CPU s", "GB", "GFLOP/answer", "GFLOP/s")
    print("".join(f"{head:>13}" for head in heads))
    for way, row in table.items():
        figures = [
            row["answers_per_second"],
            row["times_plain"],
            row["times_plain_cpu"],
            row["memory_bytes"] / 1e9,
            row["flops_per_answer"] / 1e9,
            row["flops_per_second"] / 1e9,
        ]
        print(f"{way:>13}" + "".join(f"{figure:13.2f}" for figure in figures))
    print("matrix products reach " + ", ".join(f"{v / 1e9:.0f} GFLOP/s in {k}" for k, v in ceiling.items()))
    if options.out:
        options.out.write_text(json.dumps({"ways": table, "ceiling": ceiling, "runs": seen}, indent=1) + "\n")


if __name__ == "__main__":
    main()
