"""Numbers that a person gives, checked: every failure is an InputError that says what was expected."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable
from typing import Any

from .errors import InputError


def finite_number(value: Any, name: str) -> float:
    """Anything that `float` takes, if it is finite; `name` is what the message calls it.

    >>> finite_number("1.5", "the box's x1")
    1.5
    """
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name} must be a number, not {shorten(value)!r}") from None
    if not math.isfinite(number):
        raise InputError(f"{name} must be a finite number, not {number}")
    return number


def whole_number(value: Any, name: str, at_least: int) -> int:
    """A whole number, of Python or NumPy, that is not below `at_least`.

    >>> whole_number(3, "max_new_tokens", at_least=1)
    3
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = at_least - 1
    if number < at_least:
        raise InputError(f"{name} must be a whole number of {at_least} or more, not {shorten(repr(value))}")
    return number


def check_kind(value: object, name: str, *kinds: type) -> None:
    """Refuses a value of another type than one of `kinds`, which the message names.

    >>> check_kind("a dog", "a phrase", str)
    """
    if not isinstance(value, kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise InputError(f"{name} must be {names}, not {type(value).__name__}")


def listed(values: Any, name: str, example: str) -> list[Any]:
    """What should be several values, as a list: one value alone, or a text, is refused and `example` shown.

    >>> listed(("a dog", "a cat"), "phrases", '["a dog"]')
    ['a dog', 'a cat']
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InputError(f"{name} must be a list, such as {example}, not {type(values).__name__}")
    return list(values)


def finite_pairs(points: Any, kind: str, at_least: int) -> tuple[tuple[float, float], ...]:
    """Pairs (x, y) from any iterable or array [N, 2]; `kind` is the region they belong to.

    >>> finite_pairs([[1, 2]], "scribble", at_least=1)
    ((1.0, 2.0),)
    """
    rows: Iterable[Any] = points.tolist() if hasattr(points, "tolist") else points
    try:
        pairs = tuple((float(x), float(y)) for x, y in rows)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"the points of a {kind} must be pairs of numbers (x, y)") from None
    if not all(math.isfinite(x) and math.isfinite(y) for x, y in pairs):
        raise InputError(f"the points of a {kind} must be finite numbers")
    if len(pairs) < at_least:
        raise InputError(f"a {kind} needs at least {at_least} point{'s' * (at_least > 1)}, not {len(pairs)}")
    return pairs


def split_numbers(text: str, kind: str, form: str) -> list[float]:
    """As many numbers as `form` has, between single commas, semicolons or spaces.

    >>> split_numbers("1, 2", "point", "x,y")
    [1.0, 2.0]
    """
    numbers, expected = _split(text, kind, form), form.count(",") + 1
    if len(numbers) != expected:
        raise InputError(f"a {kind} is {expected} numbers {form} in pixels, but {len(numbers)} were given")
    return numbers


def split_pairs(text: str, kind: str) -> list[tuple[float, float]]:
    """Pairs of numbers, as in "x,y x,y ...".

    >>> split_pairs("1,2 3,4", "scribble")
    [(1.0, 2.0), (3.0, 4.0)]
    """
    numbers = _split(text, kind, "x,y x,y ...")
    if len(numbers) % 2:
        raise InputError(f"a {kind} is pairs x,y in pixels, but {len(numbers)} numbers were given")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def shorten(value: object, longest: int = 60) -> str:
    """Text of bounded length on one line, to be quoted in a message.

    >>> shorten("a  b" * 9, longest=10)
    'a ba ba...'
    """
    text = " ".join(str(value)[: 4 * longest].split())
    return text if len(text) <= longest else text[: longest - 3] + "..."


def _split(text: str, kind: str, form: str) -> list[float]:
    try:
        if "_" in text:  # which Python allows in a number
            raise ValueError
        return [float(number) for number in re.split(r"\s*[,;]\s*|\s+", text.strip())]
    except ValueError:
        raise InputError(f'"{shorten(text)}" is not a {kind}; write {form} with numbers in pixels') from None
