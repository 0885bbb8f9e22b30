"""Kit's training from end to end: seven or eight stages, each a process of its own, each resumable.

The vision side learns phrases and boxes (stage T), the namer names every box, the language model learns to read
both (stage L) and, on an accelerator, to describe well as a whole (stage R), a closer look names crops, everything
trained becomes one adapter, and its scores are calibrated on pictures kept back.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from openferret.errors import InputError

# glibc must not hand memory back to the kernel after every step: the sampler's forward and backward pass takes
# 1.2 s with it and 0.1 s without. It reads these when a process starts, hence the processes.
MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "30000000000",
    "MALLOC_TOP_PAD_": "500000000",
}
# Pictures and crops a step on an accelerator: what legs 10 and 11 of docs/training.md ran with.
LARGE_BATCH = {"language": "32", "rewards": "32", "closer-look": "128"}
NEEDED = ("Annotations", "Sentences", "flickr30k-images", "train.txt")


@dataclass(frozen=True)
class Stage:
    """One process of the training.

    Attributes:
        name: for people, and for the file that says that it is done.
        module: what `python -m` runs.
        arguments: of it.
    """

    name: str
    module: str
    arguments: tuple[str, ...]


def kit_stages(
    data: Path,
    out: Path,
    trunk_minutes: float,
    language_minutes: float,
    start: Path | None = None,
    build: Path | None = None,
    closer_minutes: float = 26,
    detected: Path | None = None,
    device: str = "cpu",
    workers: int = 0,
    reward_minutes: float = 0,
) -> tuple[Stage, ...]:
    """The stages in order.

    Args:
        data: folder of Flickr30k Entities and, optionally, COCO; see docs/training.md.
        out: folder for states, logs and the adapter.
        trunk_minutes: of stage T.
        language_minutes: of stage L.
        start: an adapter to go on from; None trains from the published weights.
        build: a data set that `openferret data build` has made, whose dialogues stage L mixes in.
        closer_minutes: of the closer look.
        detected: what a detector saw on the train pictures, from `openferret.train.stages.run_detector`; the vision
            side and the namer learn from it too.
        device: of the stages that train: "cpu", "cuda", "cuda:1".
        workers: processes that make batches in advance, for accelerators.
        reward_minutes: of stage R; 0 leaves it out.

    Raises:
        InputError: the data are not there, the minutes are not positive, the build is none or holds pictures
            that Kit is measured on, the detections cannot be read, or the device or the workers are none.

    Example:
        >>> from openferret.train.kit import kit_stages
        >>> [one.name for one in kit_stages(Path("data"), Path("runs"), 60, 40)]  # doctest: +SKIP
        ['trunk', 'naming', 'language', 'naming-again', 'closer-look', 'export', 'calibrate']
    """
    if missing := [name for name in NEEDED if not (data / name).exists()]:
        raise InputError(
            f"{data} has no {missing[0]}; it must hold {', '.join(NEEDED)} of Flickr30k Entities "
            "(and, if you have them, train2017/ and instances_train2017.json of COCO)"
        )
    if not (trunk_minutes > 0 and language_minutes > 0 and closer_minutes > 0):
        raise InputError("the minutes of a stage must be more than 0")
    if not reward_minutes >= 0:
        raise InputError("the minutes of stage R must be 0 or more")
    if start is not None and not start.is_file():
        raise InputError(f"{start} is not a file; give the adapter.safetensors to go on from")
    if workers < 0:
        raise InputError(f"--workers must be 0 or more, not {workers}")
    on: tuple[str, ...] = ()
    large: dict[str, tuple[str, ...]] = dict.fromkeys(LARGE_BATCH, ())
    if device != "cpu":
        from openferret.train.stages.devices import open_device

        open_device(device)
        on = ("--device", device)
        large = {name: ("--batch", batch) for name, batch in LARGE_BATCH.items()}
    fed = (*on, "--workers", str(workers))
    mixed: tuple[str, ...] = ()
    if build is not None:
        # Here, for a wrong build should not be found out after hours of stage T.
        from openferret.data.loading.dataset import Dataset
        from openferret.train.stages.build_leaks import allowed_pictures

        allowed_pictures(Dataset.open(build), data)
        mixed = ("--build", str(build))
    seen: tuple[str, ...] = ()
    if detected is not None:
        from openferret.train.stages.detected import read_detections

        read_detections(detected)
        seen = ("--detected", str(detected))
    trunk, language, closer = (out / name for name in ("trunk", "language", "closer-look"))
    adapter = out / "adapter.safetensors"
    given = ("--data", str(data))
    begin = ("--start", str(start)) if start is not None else ()
    state, folds = str(trunk / "state.pt"), str(trunk / "folds.pt")
    written = str(language / "state.pt")
    train = "openferret.train.stages"
    rewards: tuple[Stage, ...] = ()
    rewarded = written
    if reward_minutes:
        rewarded = str(out / "rewards" / "state.pt")
        arguments = (
            *(*given, *mixed, *fed, *large["rewards"], "--keep-sampler"),
            *("--trunk", state, "--language", written, "--folds", folds),
            *("--out", str(out / "rewards"), "--reward-minutes", str(reward_minutes)),
        )
        rewards = (Stage("rewards", f"{train}.run_rewards", arguments),)
    return (
        Stage(
            "trunk",
            f"{train}.run_trunk",
            (*given, *begin, *seen, *fed, "--out", str(trunk), "--minutes", str(trunk_minutes)),
        ),
        Stage(
            "naming",
            f"{train}.run_naming",
            (*given, *seen, *on, "--trunk", state, "--views", "1", "--folds", folds),
        ),
        Stage(
            "language",
            f"{train}.run_language",
            (
                *given,
                *begin,
                *mixed,
                *fed,
                *large["language"],
                *("--trunk", state, "--out", str(language), "--minutes", str(language_minutes)),
                *("--folds", folds),
            ),
        ),
        # Stage L moved the sampler, which the namer reads too.
        Stage(
            "naming-again",
            f"{train}.run_naming",
            (*given, *seen, *on, "--trunk", state, "--language", written, "--folds", folds),
        ),
        *rewards,
        Stage(
            "closer-look",
            f"{train}.run_closer_look",
            (
                *given,
                *begin,
                *fed,
                *large["closer-look"],
                *("--out", str(closer), "--minutes", str(closer_minutes)),
                *("--pictures", str(trunk / "pictures.npy")),
            ),
        ),
        Stage(
            "export",
            f"{train}.export",
            (
                *("--trunk", state, "--language", rewarded, "--own-sampler"),
                *("--closer", str(closer / "state.pt"), "--out", str(adapter)),
            ),
        ),
        Stage("calibrate", f"{train}.calibrate", (*given, *seen, "--adapter", str(adapter))),
    )


def run_process(stage: Stage) -> int:
    """Runs a stage with the memory settings it needs; its exit status."""
    command = [sys.executable, "-m", stage.module, *stage.arguments]
    return subprocess.run(command, env=os.environ | MEMORY, check=False).returncode


def run_stages(
    stages: Sequence[Stage],
    out: Path,
    tell: Callable[[str], None],
    run: Callable[[Stage], int] = run_process,
) -> None:
    """Runs what is not done yet; started again with the same folder, the training goes on.

    Args:
        stages: in order.
        out: folder where each finished stage leaves NAME.done.
        tell: is told what begins.
        run: gives the exit status of a stage.

    Raises:
        InputError: a stage failed; what it saved is kept.
    """
    out.mkdir(parents=True, exist_ok=True)
    for number, stage in enumerate(stages, start=1):
        done = out / f"{stage.name}.done"
        if done.exists():
            tell(f"{number}/{len(stages)} {stage.name}: done before")
            continue
        tell(f"{number}/{len(stages)} {stage.name}")
        if (status := run(stage)) != 0:
            raise InputError(
                f"stage {stage.name!r} ended with status {status} (see above); the same command goes on "
                "from what it saved"
            )
        done.touch()
