"""Kit's speed on this machine, beside plain transformers and OpenVINO, and beside what the machine allows.

    python benchmarks/inference.py [--repeats 5] [--parts rows process cold] [--out FILE.json] [--plot FILE.png]

With --parts only some is measured, and the rest is taken from --out, if it is there.

Every row is measured in turns (A B C A B C ...) in one run; a figure is a median, a ratio the median of the ratios of
each turn. "plain" is `FerretForConditionalGeneration.generate` of transformers in fp32 and bf16; "ours" is what
`Ferret.load()` gives; "openvino" (pip install openvino) is the same language model in its runtime, in eight-bit
weights, and "ours int8" is our engine in eight bits too. Nothing else may run meanwhile. The threads are PyTorch's:
OMP_NUM_THREADS sets them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from inference_limits import bounds, limits
from inference_works import NAME_TOKENS, PICTURE, TOKENS, Work, plain_of, works_of_all

from openferret import Box, Ferret
from openferret.images import load_image

COLD_RUNS = 7
RATIOS = (("plain fp32", "ours"), ("openvino", "ours"), ("openvino", "ours int8"))
PARTS = ("rows", "process", "cold")

Rows = dict[str, dict[str, list[float]]]


def main() -> None:
    """Prints a table; writes JSON and a plot where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--no-bf16", action="store_true", help="For processors without bf16, where it takes minutes."
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument(
        "--busy",
        action="store_true",
        help="Other work is running: count processor time (with OMP_NUM_THREADS=1).",
    )
    parser.add_argument("--child", choices=("plain fp32", "plain bf16", "ours"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(one_process(options.child, options.busy)))
        return
    report: dict[str, Any] = {}
    if options.out and options.out.is_file():
        report = json.loads(options.out.read_text(encoding="utf-8"))
    if "rows" in options.parts:
        report["machine"] = {
            "threads": torch.get_num_threads(),
            "processor": processor_name(),
            "busy": options.busy,
        }
        report["limits"] = limits(load_image(PICTURE), lambda work: seconds(work, options.busy))
        precisions = ("fp32",) if options.no_bf16 else ("fp32", "bf16")
        works, lengths = works_of_all(precisions)
        report["seconds"] = medians(measured(works, options.repeats, options.busy))
        report["bounds"] = bounds(report["limits"], lengths, TOKENS, NAME_TOKENS)
    if "process" in options.parts:
        names = ("plain fp32", *(() if options.no_bf16 else ("plain bf16",)), "ours")
        report["process"] = {name: child(name, options.busy) for name in names}
    if "cold" in options.parts:
        report["cold start"] = cold_starts(options.busy)
    show(report)
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if options.plot:
        plot(report, options.plot)


def seconds(work: Work, busy: bool = False) -> float:
    """Wall time of one call; on a busy machine, the processor's time of this process and those it waited for."""
    clock = processor_time if busy else time.perf_counter
    began = clock()
    work()
    return clock() - began


def processor_time() -> float:
    """Seconds of this process and of ended children."""
    told = os.times()
    return time.process_time() + told.children_user + told.children_system


def measured(works: dict[str, dict[str, Work]], repeats: int, busy: bool) -> Rows:
    """Seconds of every row and engine, a list with one for each turn."""
    rows: Rows = {}
    for turn in range(repeats + 1):
        for name, works_of_engines in works.items():
            for engine, work in works_of_engines.items():
                took = seconds(work, busy)
                if turn:  # the first warms up
                    rows.setdefault(name, {}).setdefault(engine, []).append(took)
    return rows


def one_process(name: str, busy: bool) -> dict[str, float]:
    """In a process of its own: seconds to load, and peak memory after an answer."""
    kinds = {"plain fp32": torch.float32, "plain bf16": torch.bfloat16}
    if name == "ours":
        took = seconds(lambda: Ferret.load(engine="fast"), busy)
        Ferret.load(engine="fast").encode(PICTURE).refer(Box(100, 50, 300, 300))
    else:
        took = seconds(lambda: plain_of(kinds[name]), busy)
        plain_of(kinds[name]).generate(["Describe the picture."], [[]], NAME_TOKENS)
    return {"load, s": took, "peak memory, MB": peak_megabytes()}


def peak_megabytes() -> float:
    """Of this process since it began; getrusage would tell its parent's, if that was larger."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def child(name: str, busy: bool) -> dict[str, float]:
    """`one_process` in one."""
    command = [sys.executable, __file__, "--child", name, *(["--busy"] if busy else [])]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def cold_starts(busy: bool) -> dict[str, float]:
    """Median seconds of `openferret refer` from a new process, files in the page cache, engines in turns."""
    command = [sys.executable, "-m", "openferret", "refer", str(PICTURE), "--box", "100,50,300,300"]
    took: dict[str, list[float]] = {"fast": [], "reference": []}
    for turn in range(COLD_RUNS + 1):
        for engine, times in took.items():
            # Compiled modules are kept between processes, as on a user's machine.
            settings = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
            run = settings | {"OPENFERRET_ENGINE": engine}
            spent = seconds(
                lambda run=run: subprocess.run(command, check=True, capture_output=True, env=run), busy
            )
            if turn:
                times.append(spent)
    return {name: statistics.median(times) for name, times in took.items()}


def medians(rows: Rows) -> dict[str, dict[str, float]]:
    """Seconds, and for each engine the median ratio of the turns to plain fp32 (or to OpenVINO)."""
    table = {}
    for name, engines in rows.items():
        line = {engine: statistics.median(times) for engine, times in engines.items()}
        for base, ours in RATIOS:
            if base in engines and ours in engines:
                pairs = zip(engines[base], engines[ours], strict=True)
                line[f"{base} / {ours}"] = statistics.median(a / b for a, b in pairs)
        table[name] = line
    return table


def show(report: dict[str, Any]) -> None:
    """Prints everything as docs/performance.md has it: Markdown, times in milliseconds."""
    engines = ("plain fp32", "plain bf16", "openvino", "ours int8", "ours")
    columns = (*engines, *(f"{base} / {ours}" for base, ours in RATIOS))
    print(f"| ms | {' | '.join(columns)} | bound |")
    print("| --- |" + " ---: |" * (len(columns) + 1))
    for name, line in report.get("seconds", {}).items():
        cells = [
            "" if one not in line else f"{line[one]:.1f} x" if "/" in one else f"{line[one] * 1e3:.1f}"
            for one in columns
        ]
        bound = report["bounds"].get(name)
        print(f"| {name} | {' | '.join(cells)} | {'' if bound is None else f'{bound * 1e3:.1f}'} |")
    if "seconds" in report:
        name = f"{TOKENS} tokens"
        token, bound = (
            one * 1e3 / TOKENS for one in (report["seconds"][name]["ours"], report["bounds"][name])
        )
        print(
            f"\nA token: {token:.2f} ms; reading its weights takes {bound:.2f} ms; {token / bound:.2f} times."
        )
    for part in ("machine", "limits", "process", "cold start"):
        print(part, json.dumps(report.get(part)))


def processor_name() -> str:
    """As the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "unknown"


def plot(report: dict[str, Any], path: Path) -> None:
    """Times beside each other, one group a row, on a logarithmic scale."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    colours = {
        "plain fp32": "#b8b2a7",
        "plain bf16": "#8f897e",
        "openvino": "#5b8aa8",
        "ours int8": "#eab08f",
        "ours": "#d9622b",
    }
    names = list(report["seconds"])
    figure, axes = pyplot.subplots(figsize=(9, 5.2), layout="constrained")
    for place, name in enumerate(names):
        line = [
            (engine, report["seconds"][name][engine])
            for engine in colours
            if engine in report["seconds"][name]
        ]
        for step, (engine, value) in enumerate(line):
            height = place + (step - (len(line) - 1) / 2) * 0.2
            axes.barh(height, value * 1e3, 0.18, color=colours[engine], label=engine)
            axes.text(value * 1e3 * 1.05, height, f"{value * 1e3:,.0f}", va="center", fontsize=7)
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    axes.legend([unique[one] for one in colours if one in unique], [one for one in colours if one in unique])
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds (logarithmic): less is better")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
