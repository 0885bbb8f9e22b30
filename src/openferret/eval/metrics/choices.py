"""Two-choice answers about a region, as to "Is the object [0] of the image a cat or a dog?".

`official` is Ferret's rule: a clause that begins with "not" or "no" is cut out, then the right name is looked
for as a substring, in this case of letters. So "a cart" is a car, and "a notebook." is nothing.
`strict` compares words: the right class is named and the wrong one is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from openferret.nouns import singular

_WORD = re.compile(r"[a-z0-9]+")
_DENIAL = re.compile(r"\b(?:not|no|isn't|neither|nor|rather than|instead of)\b[^,.;]*")


def names_of(name: str, synonyms: Iterable[str] = ()) -> tuple[str, ...]:
    """A class's names as they are said: underscores become spaces, "bat_(animal)" is "bat" and "animal".

    >>> names_of("baseball_bat", ["date_(fruit)"])
    ('baseball bat', 'date', 'fruit')
    """
    names: dict[str, None] = {}
    for one in (name, *synonyms):
        said = one.replace("_", " ")
        for part in re.split(r"[()]", said):
            if part.strip():
                names[part.strip()] = None
    return tuple(names)


def without_denials(text: str) -> str:
    """The official rule's text: clauses ` not...,` and then ` no...,` are cut out up to the mark, included.

    >>> without_denials("It is a cat, not a dog.")
    'It is a cat,'
    """
    for word in ("not", "no"):
        text = _cut_clauses(text, word)
    return text


def official_choice(text: str, names: Iterable[str]) -> bool:
    """Ferret's rule: any of the right class's names is a substring of the answer without denials.

    >>> official_choice("The object is a cart.", ["car"]), official_choice("A DOG.", ["dog"])
    (True, False)
    """
    left = without_denials(text)
    return any(name in left for name in names)


def strict_choice(text: str, right: Iterable[str], wrong: Iterable[str]) -> bool | None:
    """Whether the answer names the right class and not the wrong one; None if it names neither or both.

    Words are compared in lower case with plurals folded. A denied class ("not a dog") is not named. A name
    that is part of a longer one of the other class ("bat" in "baseball bat") does not count where the longer
    one stands.

    >>> strict_choice("It is a cat, not a dog.", ["dog"], ["cat"]), strict_choice("a cart", ["car"], ["dog"])
    (False, None)
    """
    words = _words(_DENIAL.sub(" ", text.lower().replace("\u2019", "'")[:100_000]))
    found_right, found_wrong = _places(words, right), _places(words, wrong)
    only_right = {place for place in found_right if not any(_inside(place, other) for other in found_wrong)}
    only_wrong = {place for place in found_wrong if not any(_inside(place, other) for other in found_right)}
    if bool(only_right) == bool(only_wrong):
        return None
    return bool(only_right)


def _cut_clauses(text: str, word: str) -> str:
    r"""`re.sub(r"\s+WORD[^,.]*[,.]", "", text)` in linear time, whatever the model wrote."""
    begin = _clause(word)
    last = max(text.rfind(","), text.rfind("."))
    mark = re.compile("[,.]")
    pieces, position = [], 0
    while (match := begin.search(text, position)) and match.end() <= last:
        end = mark.search(text, match.end())
        if end is None:
            break
        pieces.append(text[position : match.start()])
        position = end.end()
    return "".join([*pieces, text[position:]])


@cache
def _clause(word: str) -> re.Pattern[str]:
    # The look-behind lets a run of spaces be entered at its beginning only; else the search is quadratic.
    return re.compile(rf"(?<!\s)\s+{word}")


def _words(text: str) -> list[str]:
    return [singular(word) for word in _WORD.findall(text.lower())]


def _places(words: list[str], names: Iterable[str]) -> set[tuple[int, int]]:
    places = set()
    for name in names:
        wanted = _words(name)
        size = len(wanted)
        if size:
            places |= {
                (start, start + size)
                for start in range(len(words) - size + 1)
                if words[start] == wanted[0] and words[start : start + size] == wanted
            }
    # Of a runaway answer the first mentions tell.
    return set(sorted(places)[:50])


def _inside(place: tuple[int, int], other: tuple[int, int]) -> bool:
    return other[0] <= place[0] and place[1] <= other[1] and place != other
