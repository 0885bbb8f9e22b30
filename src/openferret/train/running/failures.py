"""What ends a run from outside, in words that say what to do: no memory, a process that is gone, a full disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from openferret.errors import InputError
from openferret.train.recipes.recipe import TrainingRecipe

_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")
_GONE = (
    "connection closed by peer",
    "connection reset",
    "broken pipe",
    "timed out",
    "nccl",
    "gloo",
    "socket",
)


@contextmanager
def explained(recipe: TrainingRecipe, step: int, processes: int = 1) -> Iterator[None]:
    """Around a step: torch's errors as one line.

    Args:
        recipe: of the run.
        step: that is being done.
        processes: of the job.

    Raises:
        InputError: in the place of an error whose cause is known.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if isinstance(error, InputError):
            raise
        if message := explanation(error, recipe, step, processes):
            raise InputError(message) from error
        raise


def explanation(error: BaseException, recipe: TrainingRecipe, step: int, processes: int = 1) -> str:
    """What an error of torch means; "" if it is not one of those that come from outside.

    >>> from openferret.train.recipes.recipe import DataRecipe, ModelRecipe
    >>> from pathlib import Path
    >>> recipe = TrainingRecipe("mine", Path("runs"), ModelRecipe("kit"), DataRecipe((Path("built"),)))
    >>> explanation(MemoryError(), recipe, 3)[:48]
    'out of memory in step 3 with batch.micro = 4: th'
    """
    said = str(error).lower()
    if isinstance(error, MemoryError) or any(mark in said for mark in _NO_MEMORY):
        return f"out of memory in step {step} with batch.micro = {recipe.batch.micro}: {_smaller(recipe)}"
    if "no space left" in said:
        return (
            "the disk is full; make room and go on with --resume. A loader needs room in /dev/shm too: if that "
            "is full, set data.workers to 0"
        )
    if "dataloader worker" in said:
        return (
            f"a loader was killed before step {step}, probably for memory; go on with --resume and fewer of them "
            "(--set data.workers=0)"
        )
    if processes > 1 and any(mark in said for mark in _GONE):
        return (
            f"another process of this job is gone (step {step}); see what it said above. Start the same command with "
            "--resume: it goes on from the last checkpoint"
        )
    return ""


def _smaller(recipe: TrainingRecipe) -> str:
    batch = recipe.batch
    if batch.micro > 1:
        less = max(one for one in range(1, batch.micro) if batch.size % one == 0)
        advice = f"the same command with --set batch.micro={less} --resume does the same with smaller passes"
    elif recipe.data.dialogues > 1:
        advice = f"try a smaller batch: --set data.dialogues={recipe.data.dialogues // 2}"
    else:
        advice = "try --set data.max_length=..., smaller than it is"
    return advice if recipe.activation_checkpointing else f"{advice}, or --set activation_checkpointing=true"
