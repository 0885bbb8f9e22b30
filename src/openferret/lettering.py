"""Text that can be drawn: Pillow's own font has little more than ASCII, and draws a box for every other letter."""

from __future__ import annotations

import unicodedata
from functools import cache

from PIL import ImageFont

# What no decomposition of Unicode leads to.
_LIKE = dict(
    (
        *(("ß", "ss"), ("æ", "ae"), ("Æ", "AE"), ("œ", "oe"), ("Œ", "OE"), ("ø", "o"), ("Ø", "O")),
        *(("ł", "l"), ("Ł", "L"), ("đ", "d"), ("Đ", "D"), ("ð", "d"), ("Ð", "D"), ("þ", "th"), ("Þ", "Th")),
        *(("\u0131", "i"), ("\u00d7", "x"), ("\u2022", "*"), ("\u201e", '"'), ("\u201a", "'")),
        *((dash, "-") for dash in "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"),
    )
)


@cache
def drawable(character: str) -> str:
    r"""A character, or what is drawn for it where the font lacks it; what cannot be seen, such as a joiner, is "".

    Letters lose their accents; what is like no letter of the font is written by its number, as in Python.

    Example:
        >>> [drawable(one) for one in ("é", "猫", "\u200d")]
        ['e', '\\u732b', '']
    """
    if character.isspace():
        return " "
    if _has_glyph(character):
        return character
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return ""
    parts = unicodedata.normalize("NFKD", character)
    bare = "".join(_LIKE.get(one, one) for one in parts if unicodedata.category(one) not in ("Mn", "Me"))
    if bare and all(map(_has_glyph, bare)):
        return bare
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def drawable_text(text: str) -> str:
    """A text in characters that can be drawn; one that can be drawn already stays as it is.

    Example:
        >>> drawable_text("ein Kätzchen")
        'ein Katzchen'
    """
    return "".join(map(drawable, text))


@cache
def _has_glyph(character: str) -> bool:
    if character.isascii():
        return character.isprintable()
    # A character that is never assigned shows what the font draws for those that it lacks.
    return _shape(character) != _shape("\U0010ffff")


def _shape(character: str) -> tuple[tuple[int, int], bytes]:
    mask = ImageFont.load_default(16).getmask(character)
    return mask.size, bytes(mask)
