"""Which objectives a model is trained with."""

from __future__ import annotations

from openferret.loading import LoadedModel
from openferret.train.objectives.language import LanguageObjective
from openferret.train.objectives.locator import LocatorObjective
from openferret.train.objectives.objective import Objective
from openferret.train.recipes.recipe import TrainingRecipe


def objectives_for(loaded: LoadedModel, recipe: TrainingRecipe) -> tuple[Objective, ...]:
    """The objectives of a model, by what the recipe trains of it: a locator that rests needs none."""
    language = LanguageObjective()
    if loaded.model.config.use_locator and "locator" in recipe.rates:
        return (language, LocatorObjective(loaded.processor.tokenize))
    return (language,)
