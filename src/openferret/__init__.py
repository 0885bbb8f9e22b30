"""OpenFerret: point at anything in a picture and ask; ask for anything and see where it is.

Importing this package costs nothing: every name below is loaded when it is first used.

Example:
    >>> from openferret import Box
    >>> Box(10, 20, 200, 220).x2
    200.0
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openferret.answer import Answer, LocatedBox, Mention
    from openferret.errors import InputError, OpenFerretError, WeightsError
    from openferret.predictor import Chat, Ferret, Scene
    from openferret.regions import Box, Mask, Point, Polygon, Scribble

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "Box",
    "Chat",
    "Ferret",
    "InputError",
    "LocatedBox",
    "Mask",
    "Mention",
    "OpenFerretError",
    "Point",
    "Polygon",
    "Scene",
    "Scribble",
    "WeightsError",
    "__version__",
]

_HOMES = {
    "openferret.predictor": ("Chat", "Ferret", "Scene"),
    "openferret.regions": ("Box", "Mask", "Point", "Polygon", "Scribble"),
    "openferret.answer": ("Answer", "LocatedBox", "Mention"),
    "openferret.errors": ("InputError", "OpenFerretError", "WeightsError"),
}


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            # Kept in the module's namespace, so that the next look-up does not come here (PEP 562).
            value: object = getattr(import_module(home), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
