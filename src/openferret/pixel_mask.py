"""A mask that a person points with: pixels, or runs that become pixels only when they are looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:  # NumPy is imported where it is used: reading a command's options does not need it.
    import numpy as np

    from .masks import BoolArray
    from .runs import Runs

_EMPTY = "the mask is empty; at least one pixel must be inside"


@dataclass(frozen=True, eq=False, repr=False)
class Mask:
    """Any shape, as an array [height, width] of the picture's own size; what is not 0 is inside.

    It is copied as read-only bool; masks are equal if their content is. `openferret.masks` reads PNG files,
    alpha channels and COCO run lengths. `Mask.of_runs` makes no array until it is asked for.

    Raises:
        InputError: not a two-dimensional array of booleans or finite numbers, or nothing inside.

    >>> Mask([[0, 1], [0, 1]])
    Mask(2 x 2 pixels, 2 inside)
    """

    array: np.ndarray[Any, np.dtype[np.bool_]]

    def __post_init__(self) -> None:
        import numpy as np

        try:
            values = np.asarray(self.array)
        except ValueError:
            raise InputError(
                "a mask must be a two-dimensional array, but its rows differ in length"
            ) from None
        except (TypeError, RuntimeError) as error:  # a tensor on a GPU, or one that keeps its gradient
            raise InputError(f"a mask must be an array that NumPy can read: {error}") from None
        if values.ndim != 2 or values.dtype.kind not in "biuf":
            form = f"{values.ndim}-dimensional {values.dtype}"
            raise InputError(f"a mask must be a two-dimensional array of booleans or numbers, not {form}")
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise InputError("the mask holds a number that is not finite; use 0 outside and 1 inside")
        inside = values != 0
        if not inside.any():
            raise InputError(_EMPTY)
        inside.flags.writeable = False
        object.__setattr__(self, "array", inside)

    @classmethod
    def of_runs(cls, runs: Runs) -> Mask:
        """A mask of runs, however large; InputError if nothing is inside.

        >>> from openferret.masks import read_rle
        >>> Mask.of_runs(read_rle({"size": [2, 2], "counts": [2, 2]}))
        Mask(2 x 2 pixels, 2 inside)
        """
        if not len(runs):
            raise InputError(_EMPTY)
        made = cls.__new__(cls)
        object.__setattr__(made, "_runs", runs)
        return made

    def __getattr__(self, name: str) -> Any:
        """The array of a mask of runs, made when it is first looked at."""
        runs = self._as_runs()
        if name != "array" or runs is None:
            raise AttributeError(f"a Mask has no {name!r}")
        array = runs.mask()
        array.flags.writeable = False
        object.__setattr__(self, "array", array)
        return array

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        runs = self._as_runs()
        if runs is not None:
            return runs.width, runs.height
        height, width = self.array.shape
        return width, height

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """x1, y1, x2, y2 in pixels of the smallest box round what is inside.

        >>> Mask([[0, 0], [0, 1]]).bounds
        (1, 1, 2, 2)
        """
        import numpy as np

        runs = self._as_runs()
        if runs is not None:
            return runs.bounds()
        across, down = np.flatnonzero(self.array.any(axis=0)), np.flatnonzero(self.array.any(axis=1))
        return int(across[0]), int(down[0]), int(across[-1]) + 1, int(down[-1]) + 1

    def shrunk(self, columns: int, rows: int) -> BoolArray:
        """On a grid that is coarser or as fine; bool [rows, columns], as `openferret.masks.shrink_mask`."""
        from . import masks

        runs = self._as_runs()
        if runs is not None and (columns, rows) != self.size:
            return masks.shrink_runs(runs, columns, rows)
        return masks.shrink_mask(self.array, columns, rows)

    def _as_runs(self) -> Runs | None:
        return self.__dict__.get("_runs")

    def __eq__(self, other: object) -> bool:
        import numpy as np

        return np.array_equal(self.array, other.array) if isinstance(other, Mask) else NotImplemented

    def __hash__(self) -> int:
        import numpy as np

        return hash((self.array.shape, np.packbits(self.array).tobytes()))

    def __repr__(self) -> str:
        width, height = self.size
        return f"Mask({width} x {height} pixels, {int(self.array.sum())} inside)"
