"""A sample as a mirror shows it: its regions on the other side, and "left" and "right" exchanged in its words.

Left and right are not always sides ("he left", "right next to it"), and letters and clocks cannot be read in a mirror.
A sample whose words may be of that kind is not to be mirrored (`can_mirror`); what only its picture shows (a sign
that nobody asks about) is mirrored with it.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from openferret.data.outlines import RunLengths
from openferret.data.schema import Sample, Turn
from openferret.regions import Box, Mask, Point, Polygon, Region, Scribble

_SIDES = {"left": "right", "right": "left"}
_WORD = re.compile(r"\b(left|right)(?=\b|most\b|wards?\b|hand\b)", re.IGNORECASE)
_BEFORE = re.compile(
    r"\b(?:a|the|its|his|her|their|my|your|our|upper|lower|top|bottom|far|front|back|rear|facing|to|on|at|from|towards?"
    r"|(?:left|right) (?:and|or))[\s-]+$",
    re.IGNORECASE,
)
_AFTER = re.compile(
    r"most\b|wards?\b|hand\b|[\s-]+(?:of|side|hand|arm|leg|foot|eye|ear|knee|shoulder|corner|half|edge|end|part|third"
    r"|lane|wing|wheel|shoe|sleeve|(?:and|or) (?:the )?(?:left|right))\b",
    re.IGNORECASE,
)
_NO_SIDE = re.compile(r"\s+(?:now|away|answer|choice|time|way)\b", re.IGNORECASE)
_NOT_IN_A_MIRROR = re.compile(
    r"\b(?:letters?|words?|text|lettering|reads?|reading|says?|saying|spells?|spelled|writing|written|labell?ed"
    r"|clocks?|o'clock|what time|clockwise|counterclockwise|anticlockwise|digits?|licen[cs]e plates?|east|west"
    r"|eastern|western)\b",
    re.IGNORECASE,
)


def can_mirror(sample: Sample) -> bool:
    """Whether a sample's words are known to hold of the mirrored picture once left and right are exchanged.

    >>> from openferret.data.schema import PictureReference
    >>> picture = PictureReference("1.jpg", 64, 48, "mine", "1")
    >>> said = lambda text: Sample("1", picture, (Turn("user", "What is it?"), Turn("assistant", text)))
    >>> [can_mirror(said(one)) for one in ("The man on the left.", "He left.", "The sign says STOP.", "A dog.")]
    [True, False, False, True]
    """
    return all(
        _NOT_IN_A_MIRROR.search(turn.text) is None
        and all(_is_side(turn.text, one) for one in _WORD.finditer(turn.text))
        for turn in sample.turns
    )


def mirror_sample(sample: Sample) -> Sample:
    """The same sample about the mirrored picture.

    Args:
        sample: with a picture of known size, if it has regions; one that `can_mirror`.

    Returns:
        A sample of another id; its picture still names the file as it is.

    >>> from openferret.data.schema import PictureReference
    >>> turns = (Turn("user", "What is <region:0>?"), Turn("assistant", "The left shoe."))
    >>> sample = Sample("1", PictureReference("1.jpg", 64, 48, "mine", "1"), turns, (Box(4, 8, 20, 30),))
    >>> mirrored = mirror_sample(sample)
    >>> mirrored.regions[0], mirrored.turns[1].text
    (Box(x1=44.0, y1=8.0, x2=60.0, y2=30.0), 'The right shoe.')
    """
    width = sample.picture.width if sample.picture is not None else 0
    return replace(
        sample,
        id=f"{sample.id} (mirrored)",
        turns=tuple(Turn(turn.role, mirror_text(turn.text)) for turn in sample.turns),
        regions=tuple(mirror_region(one, width) for one in sample.regions),
        masks=tuple(
            None if one is None else RunLengths.of(np.ascontiguousarray(one.mask().array[:, ::-1]))
            for one in sample.masks
        ),
        extra={
            name: mirror_text(value) if isinstance(value, str) else value
            for name, value in sample.extra.items()
        },
    )


def mirror_region(region: Region, width: int) -> Region:
    """A region on the mirrored picture.

    Args:
        region: in pixels.
        width: of the picture in pixels.
    """
    match region:
        case Box(x1, y1, x2, y2):
            return Box(width - x2, y1, width - x1, y2)
        case Point(x, y):
            return Point(width - x, y)
        case Scribble(points, brush):
            return Scribble([(width - x, y) for x, y in points], brush)
        case Polygon(points):
            return Polygon([(width - x, y) for x, y in points])
        case Mask(array):
            return Mask(np.ascontiguousarray(array[:, ::-1]))


def mirror_text(text: str) -> str:
    """Left and right exchanged where they are sides.

    >>> mirror_text("The leftmost of two, on the left. He left.")
    'The rightmost of two, on the right. He left.'
    """
    return _WORD.sub(lambda one: _other(one[1]) if _is_side(text, one) else one[1], text)


def _is_side(text: str, found: re.Match[str]) -> bool:
    before, after = text[: found.start()], text[found.end() :]
    if _NO_SIDE.match(after):
        return False
    alone = text.strip(" .!?").lower() in _SIDES
    return alone or bool(_AFTER.match(after) or _BEFORE.search(before))


def _other(word: str) -> str:
    other = _SIDES[word.lower()]
    return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other
