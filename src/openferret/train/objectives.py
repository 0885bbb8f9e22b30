"""Which objectives a model is trained with."""

from __future__ import annotations

from openferret.model.configuration import FerretConfig
from openferret.train.language_objective import LanguageObjective
from openferret.train.objective import Objective


def objectives_for(config: FerretConfig) -> tuple[Objective, ...]:
    """The objectives of a model, by what it is made of."""
    return (LanguageObjective(),)
