"""A colour for each class: as many as there are names, dark enough to carry white text."""

from __future__ import annotations

import colorsys

_GOLDEN = 0.618034  # of a turn: neighbours in number are far apart in hue, however many there are
_BRIGHTEST = 0.2  # relative luminance: white on it has a contrast of 4.2 to 1 or more


def colour_of(number: int) -> str:
    """The colour of a class by its number, as "#rrggbb".

    >>> colour_of(0) == colour_of(0) != colour_of(1)
    True
    """
    red, green, blue = colorsys.hls_to_rgb((0.96 + number * _GOLDEN) % 1, 0.45, 0.85)
    luminance = sum(weight * value**2.2 for weight, value in ((0.2126, red), (0.7152, green), (0.0722, blue)))
    dim = min(1.0, (_BRIGHTEST / luminance) ** (1 / 2.2))
    return "#" + "".join(f"{round(255 * value * dim):02x}" for value in (red, green, blue))
