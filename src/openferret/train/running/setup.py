"""Everything of a run before its first step: processes, model, data, features, objectives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps

from openferret.errors import InputError
from openferret.loading import LoadedModel
from openferret.train.batches.bucketing import Plan, split_pictures
from openferret.train.batches.collate import Collator
from openferret.train.batches.features import FeatureCache, open_features
from openferret.train.batches.gathering import Gathered, gather
from openferret.train.batches.streaming import Reader, check_pictures
from openferret.train.batches.wording import DialogueWriter
from openferret.train.objectives.choosing import objectives_for
from openferret.train.objectives.module import TrainingModule
from openferret.train.objectives.objective import Objective
from openferret.train.processes.parallel import Parallel
from openferret.train.processes.precision import in_bfloat16
from openferret.train.recipes.recipe import TrainingRecipe
from openferret.train.weights.checkpoint import Identity, explained_disk
from openferret.train.weights.parts import choose_trained, halve_resting, widen_scalars
from openferret.train.weights.starting import load_start, start_digest


@dataclass(frozen=True)
class Run:
    """A run that can begin.

    Attributes:
        recipe: of it.
        parallel: who does it.
        loaded: the model and its processor.
        module: the model with its objectives, not wrapped yet.
        plan: of the batches.
        validation: plan of the pictures that are kept back; None if there are none.
        reader: of rows.
        identity: what its checkpoints belong to.
        trained: numbers trained, by part.
        parameters: of the whole model.
    """

    recipe: TrainingRecipe
    parallel: Parallel
    loaded: LoadedModel
    module: TrainingModule
    plan: Plan
    validation: Plan | None
    reader: Reader
    identity: Identity
    trained: dict[str, int]
    parameters: int


def open_parallel(recipe: TrainingRecipe) -> Parallel:
    """The processes that a run was launched in."""
    if recipe.sharding == "fully_shard":
        from openferret.train.processes.sharding import ShardedParallel

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return ShardedParallel(half=in_bfloat16(recipe, device))
    from openferret.train.processes.distributed import AccelerateParallel

    return AccelerateParallel(recipe)


def set_up(recipe: TrainingRecipe, objectives: Sequence[Objective] | None = None) -> Run:
    """Opens and checks everything; what takes long and can be kept is kept in the cache.

    Args:
        recipe: of the run.
        objectives: that give the losses; None for those of the model.

    Raises:
        InputError: something cannot be used or found.
        WeightsError: the model that it should begin with cannot be opened.
    """
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    parallel = open_parallel(recipe)
    recipe.batch.accumulation(parallel.processes)
    gathered = _gathered(recipe, parallel)
    learned, kept_back = split_pictures(gathered, recipe.data.validation)
    skip = recipe.data.skip_missing
    learned, kept_back = (
        check_pictures(gathered, some, skip) if some else some for some in (learned, kept_back)
    )
    loaded = load_start(recipe.model, recipe.seed)
    start = start_digest(loaded.model)
    writer = DialogueWriter(
        loaded.processor, loaded.model.config, recipe.data.regions, recipe.seed, recipe.data.max_length
    )
    prefix = tuple(writer.prefix())
    plan = Plan(gathered, recipe, len(prefix), learned)
    plan.check()
    validation = Plan(gathered, recipe, len(prefix), kept_back) if kept_back else None
    if parallel.mixed_weights or recipe.data.cache_features:  # a sharded model is moved part by part
        loaded.model.to(parallel.device)
    seen = [*learned, *kept_back]
    if recipe.data.mirror:
        seen += [one + gathered.pictures for one in learned]
    features = _features(recipe, parallel, loaded, gathered, seen)
    parameters = sum(one.numel() for one in loaded.model.parameters())
    torch.manual_seed(recipe.seed)  # of the updates' first values
    trained = choose_trained(loaded.model, recipe)
    half = in_bfloat16(recipe, parallel.device)
    if not parallel.mixed_weights:
        widen_scalars(loaded.model)
    elif half:
        halve_resting(loaded.model)
    if recipe.activation_checkpointing:
        loaded.model.model.language_model.activation_checkpointing_enable({"use_reentrant": False})
    chosen = tuple(objectives_for(loaded, recipe) if objectives is None else objectives)
    shapes = None if features is None else features.shapes
    collator = Collator(loaded.processor, prefix, shapes, chosen, recipe.data.max_length)
    return Run(
        recipe=recipe,
        parallel=parallel,
        loaded=loaded,
        module=TrainingModule(loaded.model, chosen, recipe.losses, half),
        plan=plan,
        validation=validation,
        reader=Reader(gathered, writer, collator, features, skip),
        identity=Identity(recipe, gathered.digest, start, tuple(one.name for one in chosen)),
        trained=trained,
        parameters=parameters,
    )


def _gathered(recipe: TrainingRecipe, parallel: Parallel) -> Gathered:
    """One process of each machine gathers, the others wait; a cache that machines share is written once."""
    cache = recipe.data.cache or recipe.out / "cache"
    if parallel.process == 0:
        gather(recipe.data.build, cache)
    parallel.wait()
    if parallel.local_process == 0:
        gather(recipe.data.build, cache)
    parallel.wait()
    return gather(recipe.data.build, cache)


def _features(
    recipe: TrainingRecipe,
    parallel: Parallel,
    loaded: LoadedModel,
    gathered: Gathered,
    pictures: Sequence[int],
) -> FeatureCache | None:
    """Fills the cache of a frozen tower, each process a share of it; picture n mirrored is at n + all pictures."""
    if not recipe.data.cache_features:
        return None
    cache = open_features(
        loaded.model,
        loaded.processor,
        recipe.data.cache or recipe.out / "cache",
        gathered.digest,
        gathered.pictures * (2 if recipe.data.mirror else 1),
    )

    def load(place: int) -> Image.Image | None:
        mirrored, number = divmod(place, gathered.pictures)
        picture = gathered.samples([gathered.first[number]])[0].picture
        if picture is None:
            return None
        try:
            image = gathered.build_of(number).load_picture(picture)
            return ImageOps.mirror(image) if mirrored else image
        except InputError:
            if recipe.data.skip_missing:
                return None
            raise

    with explained_disk(cache.folder):
        if parallel.local_process == 0:
            cache.make()
        parallel.wait()
        share = np.array_split(np.array(pictures), parallel.processes)[parallel.process]
        cache.fill(loaded.model, loaded.processor, share.tolist(), load, lambda done, total: None)
    parallel.wait()
    return cache
