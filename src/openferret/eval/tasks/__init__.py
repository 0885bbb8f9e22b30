"""The benchmarks, one a file: each reads genuine files into a `Benchmark`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openferret.errors import InputError

if TYPE_CHECKING:  # reading a command's options needs no NumPy
    from openferret.eval.scores import Benchmark

TASKS: Mapping[str, str] = {
    "lvis-refer": "which of two classes is at a point, in a box, under a stroke (LVIS or COCO)",
    "refexp": "referring expressions: RefCOCO, RefCOCO+, RefCOCOg",
    "flickr30k-entities": "phrase grounding: R@1, merged and any box, by type and size",
    "ground-classes": "where is each class: R@1, boxes found, saying so when it is not there (COCO layout)",
    "grounded-caption": "captions with boxes: BLEU-4, CIDEr, F1_all, F1_loc (Flickr30k Entities)",
    "pope": "is there a ...? accuracy, precision, recall, F1, yes %",
    "name-classes": "what is in a box: does the answer name its class (COCO layout)",
    "refer-caption": "what is at a region: head noun, exact, CIDEr (Flickr30k Entities)",
    "calibration": "do the scores of boxes mean what they say: ECE (Flickr30k Entities)",
    "absent": "saying 'not in the picture' when it is so: F1 (Flickr30k Entities)",
    "chair": "objects in captions that are not on the picture (COCO's 80 classes)",
    "ferret-bench": "referring, reasoning and grounding in conversation, by a judge and without one",
    "llava-bench": "conversation, detail and reasoning, by a judge and without one",
}


def load(task: str, options: Mapping[str, Any]) -> Benchmark:
    """Reads the data of a task.

    Args:
        task: one of `TASKS`.
        options: the keyword arguments of that task's `load`.

    Raises:
        InputError: no such task, or files that cannot be used.
    """
    if task not in TASKS:
        raise InputError(f"there is no task {task!r}: give one of {', '.join(TASKS)}")
    module = import_module(f"openferret.eval.tasks.{task.replace('-', '_')}")
    benchmark: Benchmark = module.load(**options)
    return replace(benchmark, options=_chosen(module.load, options))


def _chosen(load: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, bool | int | str]:
    """What a run was of, defaults too: numbers, words, and files by their name alone, never a folder's."""
    given = signature(load).bind(**options)
    given.apply_defaults()
    told = {name: _told(value) for name, value in given.arguments.items()}
    return {name: value for name, value in told.items() if value is not None}


def _told(value: Any) -> bool | int | str | None:
    if isinstance(value, (bool, int, str)):
        return value
    files = [value] if isinstance(value, Path) else value if isinstance(value, Sequence) else []
    return ", ".join(file.name for file in files if not file.is_dir()) or None
