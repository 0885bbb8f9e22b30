"""The region sampler's speed and memory at the paper's size, beside the formula as the paper writes it.

    python benchmarks/sampler.py [--regions 1 8 32 128] [--repeats 5] [--out FILE.json]

Both run in one process, on the same weights and regions, by turns (A B A B); times are medians, ratios medians of
the turns. FLOPs are those of the matrix products; bytes are what must be read and written once: weights, maps and
vectors, and with gradients twice more. Both are set against a product of large matrices and a sum of a large
vector measured in the same run. Peak memory is that of one call in a fresh process, weights and inputs not
counted. The plain form is skipped where one call would take longer than `--longest` seconds.

Where there is no C compiler, the fast form runs in PyTorch alone, as with --pytorch-only.

Regions are boxes with sides of a tenth to six tenths of the picture's, and once the whole picture, which is the
worst case. No training may run meanwhile.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import statistics
import time
import unittest.mock
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from openferret.model import sampler_native
from openferret.model.sampler import SampleGatherPool, SpatialAwareSampler, gather_points
from openferret.processing.geometry import SamplerGeometry, masks_geometry

CHANNELS, OUTPUT, SIDE, PICTURE = 1024, 4096, 24, 336
SIZES = SamplerGeometry(points=512, anchors=(128, 32), neighbors=(24, 24))
PLAIN_FLOPS = 24.4e9  # a region's, to foresee the time of a call
PYTORCH_ONLY = "OPENFERRET_BENCHMARK_PYTORCH_ONLY"
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Case:
    """What is run: a number of boxes on one picture, or the whole picture as the only region."""

    regions: int
    dtype: str
    gradient: bool
    whole: bool = False

    @property
    def name(self) -> str:
        """For the table."""
        regions = "whole picture" if self.whole else str(self.regions)
        return f"{regions}, {'forward + backward' if self.gradient else 'forward'}, {self.dtype}"


@dataclass(frozen=True)
class Inputs:
    """One picture's map, as a vision transformer gives it, and its regions' geometry."""

    level: Tensor
    points: Tensor
    anchors: list[Tensor]
    neighbors: list[Tensor]
    picture: Tensor


def leave_out_kernels() -> None:
    """In this process, where the environment asks for it."""
    if os.environ.get(PYTORCH_ONLY):
        sampler_native.kernels = lambda: None


def make(case: Case) -> tuple[SpatialAwareSampler, Inputs]:
    """A sampler with random weights and the inputs of a case; the same whenever it is called."""
    torch.manual_seed(0)
    dtype = TYPES[case.dtype]
    sampler = SpatialAwareSampler([CHANNELS], SIZES.anchors, OUTPUT, align_corners=True).to(dtype)
    cells = torch.randn(1, SIDE * SIDE, CHANNELS).to(dtype)
    generator = np.random.default_rng(0)
    masks = []
    for _ in range(case.regions):
        sides = (generator.uniform(0.1, 0.6, 2) * PICTURE).astype(int)
        left, top = (generator.uniform(0, 1, 2) * (PICTURE - sides)).astype(int)
        mask = np.full((PICTURE, PICTURE), case.whole)
        mask[top : top + sides[1], left : left + sides[0]] = True
        masks.append(mask)
    drawn = masks_geometry(masks, SIZES)
    anchors, neighbors = (
        [torch.from_numpy(one) for one in many] for many in (drawn.anchors, drawn.neighbors)
    )
    level = cells.transpose(1, 2).unflatten(2, (SIDE, SIDE)).requires_grad_(case.gradient)
    picture = torch.zeros(case.regions, dtype=torch.long)
    return sampler, Inputs(level, torch.from_numpy(drawn.points), anchors, neighbors, picture)


def plain_block(
    block: SampleGatherPool, features: Tensor, points: Tensor, anchors: Tensor, neighbors: Tensor
) -> Tensor:
    """A block, pair by pair (paper, section 3.2)."""
    joined = torch.cat([features, points.to(features.dtype)], -1)
    centre = gather_points(joined, anchors)[:, :, None].expand(-1, -1, neighbors.shape[-1], -1)
    difference = block.difference(gather_points(joined, neighbors) - centre)
    return block.norm(functional.relu(block.aggregate(torch.cat([difference, centre], -1)))).amax(2)


def plain(sampler: SpatialAwareSampler, inputs: Inputs) -> Tensor:
    """The sampler as its formula is written, with a copy of the map for each region."""
    maps, points = inputs.level[inputs.picture], inputs.points
    read = functional.grid_sample(maps.float(), (2 * points - 1)[:, None], align_corners=True)
    features = read[:, :, 0].transpose(1, 2).to(maps.dtype)
    for block, anchors, neighbors in zip(sampler.blocks, inputs.anchors, inputs.neighbors, strict=True):
        features = plain_block(block, features, points, anchors, neighbors)
        points = gather_points(points, anchors)
    # As functions: called as modules, these two would be read by the fast form's own kernels.
    hidden = functional.linear(features.flatten(1), sampler.flatten.weight, sampler.flatten.bias)
    return functional.linear(hidden, sampler.output.weight, sampler.output.bias)


def fast(sampler: SpatialAwareSampler, inputs: Inputs) -> Tensor:
    """The sampler as it is."""
    return sampler([inputs.level], inputs.points, inputs.anchors, inputs.neighbors, inputs.picture)


FORMS: dict[str, Callable[[SpatialAwareSampler, Inputs], Tensor]] = {"plain": plain, "fast": fast}


def call(form: str, case: Case, sampler: SpatialAwareSampler, inputs: Inputs) -> None:
    """One pass, after which no gradient is left."""
    with torch.set_grad_enabled(case.gradient):
        vectors = FORMS[form](sampler, inputs)
    if case.gradient:
        vectors.float().square().sum().backward()
        sampler.zero_grad()
        inputs.level.grad = None


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def flops(work: Callable[[], object]) -> int:
    """Operations of the matrix products in one call; PyTorch's counter sees only its own."""
    in_pytorch = unittest.mock.patch.object(sampler_native, "kernels", return_value=None)
    with in_pytorch, FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def peak_bytes(form: str, case: Case) -> int:
    """Highest resident memory during a call, above what lay there before; for a fresh process (Linux)."""
    leave_out_kernels()
    sampler, inputs = make(case)
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the high-water mark starts anew
    call(form, case, sampler, inputs)
    return _resident("VmHWM") - before


def _resident(mark: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(mark))


def in_fresh_process(form: str, case: Case) -> int:
    """`peak_bytes`, measured where nothing else has run."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(peak_bytes, form, case).result()


def ceilings(repeats: int) -> dict[str, float]:
    """FLOPs a second of a large product in each precision, and bytes a second of reading a large vector."""
    found = {}
    for name, dtype in TYPES.items():
        square = torch.randn(2048, 2048).to(dtype)
        found[name] = (
            2 * 2048**3 / min(seconds(lambda square=square: square @ square) for _ in range(repeats))
        )
    long = torch.ones(2**26)
    found["bytes"] = long.nbytes / min(seconds(long.sum) for _ in range(repeats))
    return found


def measure(case: Case, forms: list[str], repeats: int, ceiling: dict[str, float]) -> dict[str, object]:
    """Times, work, memory and share of the roofline of each form of one case."""
    sampler, inputs = make(case)
    work = {form: functools.partial(call, form, case, sampler, inputs) for form in forms}
    for one in work.values():  # what a first call does once is neither counted nor timed
        one()
    if "fast" in work:  # nor what it does once in PyTorch alone
        flops(work["fast"])
    count = {form: flops(one) for form, one in work.items()}
    taken: dict[str, list[float]] = {form: [] for form in forms}
    for _ in range(repeats):
        for form, one in work.items():
            taken[form].append(seconds(one))
    size = sum(one.nbytes for one in sampler.parameters()) + inputs.level.nbytes
    size = (size + case.regions * OUTPUT * inputs.level.itemsize) * (3 if case.gradient else 1)
    figures: dict[str, object] = {}
    for form in forms:
        median = statistics.median(taken[form])
        least = max(count[form] / ceiling[case.dtype], size / ceiling["bytes"])
        figures[form] = {
            "seconds": median,
            "every_time": taken[form],
            "flops": count[form],
            "bytes": size,
            "roofline": least / median,
            "peak_bytes": in_fresh_process(form, case),
        }
    if len(forms) == 2:
        figures["ratio"] = statistics.median(a / b for a, b in zip(*taken.values(), strict=True))
    return figures


def line(case: Case, figures: dict[str, object]) -> str:
    """One line of the table; a form that was skipped leaves its columns empty."""
    columns = [case.name]
    for form in FORMS:
        one = figures.get(form)
        if isinstance(one, dict):
            columns += [
                f"{one['seconds'] * 1e3:.0f} ms",
                f"{one['flops'] / 1e9:.1f}",
                f"{one['roofline']:.0%}",
                f"{one['peak_bytes'] / 2**20:.0f} MiB",
            ]
        else:
            columns += ["skipped", "", "", ""]
    ratio = figures.get("ratio")
    columns.append(f"{ratio:.1f}" if isinstance(ratio, float) else "")
    return " | ".join(columns)


def main() -> None:
    """Prints a table line by line, and writes everything as JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--regions", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--types", nargs="+", choices=TYPES, default=list(TYPES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--longest", type=float, default=45, help="seconds that a call may be foreseen to take"
    )
    parser.add_argument("--pytorch-only", action="store_true", help="leave the sampler's C kernels out")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.pytorch_only:
        os.environ[PYTORCH_ONLY] = "1"
    leave_out_kernels()
    ceiling = ceilings(options.repeats)
    print(f"C kernels: {'no' if sampler_native.kernels() is None else 'yes'}")
    for name, value in ceiling.items():
        print(f"ceiling, {name}: {value / 1e9:.0f} G/s, {torch.get_num_threads()} threads")
    print("regions | plain | GFLOP | roofline | peak | fast | GFLOP | roofline | peak | ratio", flush=True)
    results = {}
    for dtype in options.types:
        for gradient in (False, True):
            boxes = [Case(count, dtype, gradient) for count in options.regions]
            for case in (Case(1, dtype, gradient, whole=True), *boxes):
                foreseen = PLAIN_FLOPS * case.regions * (3 if gradient else 1) / ceiling[dtype]
                forms = list(FORMS) if foreseen < options.longest else ["fast"]
                results[case.name] = measure(case, forms, options.repeats, ceiling)
                print(line(case, results[case.name]), flush=True)
    if options.out:
        text = json.dumps({"ceilings": ceiling, "cases": results}, indent=2)
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
