"""Which objectives a model is trained with."""

from __future__ import annotations

from openferret.loading import LoadedModel
from openferret.train.language_objective import LanguageObjective
from openferret.train.locator_objective import LocatorObjective
from openferret.train.objective import Objective
from openferret.train.recipe import TrainingRecipe


def objectives_for(loaded: LoadedModel, recipe: TrainingRecipe) -> tuple[Objective, ...]:
    """The objectives of a model, by what the recipe trains of it: a locator that rests needs none."""
    language = LanguageObjective()
    if loaded.model.config.use_locator and "locator" in recipe.rates:
        return (language, LocatorObjective(loaded.processor.tokenize))
    return (language,)
