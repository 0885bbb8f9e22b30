"""The two runs of a fine-tuning, as recipes of the general loop and their objectives.

`see`: the locator learns where the classes are and the namer what they are called, on features that were computed
once; what they knew is held by their untouched copies. `say`: low-rank updates of the language model learn to read
it, in few steps.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openferret.loading import LoadedModel
from openferret.train.finetune.start import memory_phrases
from openferret.train.objectives.language import LanguageObjective
from openferret.train.objectives.locator import MEMORY as LOCATOR_MEMORY
from openferret.train.objectives.locator import PRESENCE, LocatorObjective, Memory
from openferret.train.objectives.namer import MEMORY as NAMER_MEMORY
from openferret.train.objectives.namer import NamerObjective
from openferret.train.objectives.objective import Objective
from openferret.train.recipes.recipe import (
    BatchRecipe,
    DataRecipe,
    Every,
    LoraRecipe,
    ModelRecipe,
    MonitorRecipe,
    OptimizerRecipe,
    Part,
    TrainingRecipe,
)

_LONGEST = 768  # tokens of a row
_MIRRORED = 0.5  # of the rows
_SEEN_IN_A_STEP, _SAID_IN_A_STEP = 12, 4  # pictures


@dataclass(frozen=True)
class Effort:
    """How long and how hard is learned.

    Args:
        see: steps of the locator and the namer.
        say: steps of the language model; 0 leaves it as it is.
        at_once: most pictures that go through together: fewer need less memory, and change nothing else.
        rate: factor of every learning rate.
        seed: of the order.
        boards: dashboards.
        threads: of the processor; 0 leaves it to torch.
        mirror: show half of the rows as a mirror shows them.
    """

    see: int = 160
    say: int = 48
    at_once: int = 12
    rate: float = 1.0
    seed: int = 0
    boards: tuple[str, ...] = ("tensorboard",)
    threads: int = 0
    mirror: bool = False


def see_recipe(
    start: Path, built: Path, place: Path, effort: Effort, rows: int, namer: bool
) -> TrainingRecipe:
    """The run in which locator and namer learn.

    Args:
        start: model folder.
        built: the data set.
        place: folder of all runs.
        effort: how much.
        rows: of the data, about: a step takes no more.
        namer: whether the model has one.
    """
    size = max(1, min(_SEEN_IN_A_STEP, rows))
    rates: dict[Part, float] = {"locator": 5e-4 * effort.rate}
    if namer:
        rates["namer"] = 3e-4 * effort.rate
    return TrainingRecipe(
        "see",
        place / "see",
        ModelRecipe(str(start)),
        _data(built, place, effort),
        steps=effort.see,
        batch=BatchRecipe(size, _micro(size, effort), 0),
        optimizer=OptimizerRecipe(rates, clip=2.0, warmup=0.1, floor=0.02),
        losses={PRESENCE: 0.5, LOCATOR_MEMORY: 1.0} | ({NAMER_MEMORY: 2.0} if namer else {}),
        seed=effort.seed,
        threads=effort.threads,
        every=Every(checkpoint=40, evaluate=max(1, effort.see // 4), keep=1),
        monitor=MonitorRecipe(effort.boards),
    )


def say_recipe(start: Path, built: Path, place: Path, effort: Effort, rows: int) -> TrainingRecipe:
    """The run in which the language model learns; arguments as of `see_recipe`."""
    size = max(1, min(_SAID_IN_A_STEP, rows))
    return TrainingRecipe(
        "say",
        place / "say",
        ModelRecipe(str(start), lora=LoraRecipe(rank=8, alpha=16.0)),
        _data(built, place, effort),
        steps=effort.say,
        batch=BatchRecipe(size, _micro(size, effort), 8),
        optimizer=OptimizerRecipe({"language": 2e-4 * effort.rate}, warmup=0.1, floor=0.05),
        seed=effort.seed,
        threads=effort.threads,
        every=Every(checkpoint=20, evaluate=max(1, effort.say // 2), keep=1),
        monitor=MonitorRecipe(effort.boards),
    )


def see_objectives(start: LoadedModel, classes: Sequence[str], nouns: Sequence[str]) -> tuple[Objective, ...]:
    """What locator and namer learn, held to what they are in the model that the run begins with."""
    body = start.model.model
    objectives: list[Objective] = []
    if body.locator is not None:
        teacher = copy.deepcopy(body.locator).requires_grad_(False)
        memory = Memory(teacher, memory_phrases(classes))
        objectives.append(LocatorObjective(start.processor.tokenize, memory, absent_each=0))
    if body.namer is not None:
        objectives.append(NamerObjective(nouns, copy.deepcopy(body.namer).requires_grad_(False)))
    return tuple(objectives)


def say_objectives() -> tuple[Objective, ...]:
    """What the language model learns."""
    return (LanguageObjective(),)


def _micro(size: int, effort: Effort) -> int:
    return max(one for one in range(1, size + 1) if size % one == 0 and one <= max(effort.at_once, 1))


def _data(built: Path, place: Path, effort: Effort) -> DataRecipe:
    return DataRecipe(
        (built,),
        place / "cache",
        dialogues=8,
        max_length=_LONGEST,
        cache_features=True,
        workers=0,
        mirror=_MIRRORED if effort.mirror else 0.0,
    )
