"""How Ferret's own scorers read a box from text, fault for fault; and the two-step rounding to pixels.

`[` opens, `]` closes, whatever lies between is cut at commas and the first four pieces must be whole numbers.
One box that is none drops the whole answer. The phrase of a box is the text before it since the last mark of
punctuation after the box before. Inferred from the parity fixtures, which hold outputs only.
"""

from __future__ import annotations

import re

from openferret.eval.metrics.boxes import BoxNumbers

_BOX = re.compile(r"\[([^\]]*)\]")
_MARKS = ",.;:!?"
_FAR = 10**9  # a number beyond it is as far outside the picture; a float does not hold every whole number


def read_boxes(text: str) -> list[tuple[str, tuple[int, int, int, int]]] | None:
    """Phrases and boxes as written, 0..999; None if one box is malformed.

    A box of three numbers, at which the reference stops with an error, is malformed too.

    >>> read_boxes("a cat [0, 0, 999, 999], a dog [1, 2, 3, 4].")
    [('a cat', (0, 0, 999, 999)), ('a dog', (1, 2, 3, 4))]
    """
    found: list[tuple[str, tuple[int, int, int, int]]] = []
    position = 0
    # Without a closing bracket there is no box; looking for one from every "[" would be quadratic.
    for match in _BOX.finditer(text, 0, text.rfind("]") + 1):
        try:
            x1, y1, x2, y2 = (min(max(int(piece), -_FAR), _FAR) for piece in match[1].split(",", 4)[:4])
        except ValueError:
            return None
        before = text[position : match.start()]
        if found:
            begins = [before.index(mark) for mark in _MARKS if mark in before]
            before = before[min(begins) + 1 :] if begins else ""
        found.append((before.strip(), (x1, y1, x2, y2)))
        position = match.end()
    return found


def to_pixels(box: tuple[int, int, int, int], width: int, height: int) -> BoxNumbers:
    """Thousandths to whole pixels, truncated: `int(v * size / 1000)`.

    >>> to_pixels((10, 20, 300, 400), 640, 480)
    (6, 9, 192, 192)
    """
    x1, y1, x2, y2 = box
    return int(x1 * width / 1000), int(y1 * height / 1000), int(x2 * width / 1000), int(y2 * height / 1000)
