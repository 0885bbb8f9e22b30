"""What a run leaves: a model folder that every verb opens."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from openferret.train.recipes.recipe import TrainingRecipe
from openferret.train.running.quiet import quiet_transformers
from openferret.train.weights.checkpoint import explained_disk
from openferret.train.weights.parts import Trained, apply_trained
from openferret.train.weights.starting import load_start
from openferret.weight_files import share_weights


def write_model(recipe: TrainingRecipe, tensors: Mapping[str, Tensor], folder: Path) -> Path:
    """Writes the model that a run began with and what it was taught since, whole or not at all.

    Low-rank updates are added to their matrices; the result needs nothing of the run.

    Args:
        recipe: of the run.
        tensors: trained ones (`Parallel.whole_tensors`).
        folder: to write; one that is there is replaced.

    Returns:
        The folder.

    Raises:
        InputError: the disk is full, or the place cannot be written.
    """
    loaded = load_start(recipe.model, recipe.seed)
    apply_trained(loaded.model, Trained(tensors, recipe.model.lora))
    partial = folder.with_name(folder.name + ".partial")
    with explained_disk(folder):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        stored = loaded.model.config.dtype  # of the beginning: Kit's is float16
        kept = stored if isinstance(stored, torch.dtype) and recipe.model.start == "kit" else torch.float32
        with quiet_transformers():
            loaded.model.to(kept).save_pretrained(partial)
        loaded.processor.save_pretrained(partial)
        share_weights(partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    return folder
