"""JSON files larger than memory: their items one after the other, as far as the file is sound."""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from openferret.data.files.atomic import whole_file
from openferret.data.files.regular import check_regular
from openferret.data.problems import Problems
from openferret.errors import InputError
from openferret.eval.files import sound_unicode

LARGEST_ITEM = 64 << 20  # characters
_STEP = 1 << 20  # bytes read at once
_MOST_KEYS = 100  # of an object that are remembered, to tell which stands twice
_MOST_DIGITS = 300  # more are no number that anything here could mean, and no float


def _whole(digits: str) -> float:
    return int(digits) if len(digits) <= _MOST_DIGITS else math.inf


_DECODER = json.JSONDecoder(parse_int=_whole)
_SPACE = re.compile(r"[ \t\n\r]*")


def first_character(path: Path) -> str:
    """The first character that is not space: "[" or "{" of JSON; "" for an empty file.

    Raises:
        InputError: the file cannot be read.
    """
    check_regular(path)
    try:
        with path.open("rb") as stream:
            return _Text(stream).first()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


def not_an_object(path: Path) -> str:
    """Why a file is no JSON object, as far as its first character tells; "" if it may be one.

    Raises:
        InputError: the file cannot be read.
    """
    first = first_character(path)
    if not first:
        return "it is empty"
    return "" if first == "{" else f"it begins with {first!r}, and not with a JSON object's {{"


def stream_items(path: Path, place: str, problems: Problems, whole: bool = False) -> Iterator[Any]:
    """The items of one list of a JSON file, never the whole file: an item and a few MiB are held at a time.

    UTF-8, as JSON should be, or UTF-16 or UTF-32, as Windows' tools write it.

    Args:
        path: of the file.
        place: where the list is: "item" for a file that is a list, "images.item" for a list in an object.
        problems: is told if the file is cut off or damaged, nested too deeply, or has an item of more than
            `LARGEST_ITEM` characters; the items before that are given.
        whole: go on to the end of the file behind the list, and tell what stands there and is not read: a key for the
            second time, or more text behind the object.

    Raises:
        InputError: the file cannot be read, or is damaged and `problems` is strict.
    """
    check_regular(path)
    key = place.removesuffix("item").removesuffix(".")
    try:
        with path.open("rb") as stream:
            text = _Text(stream)
            yield from text.items_of(key) if key else text.whole_list()
            for repeated in text.rest_of_object() if whole and key else ():
                reason = f"the key {repeated[:80]!r} stands twice in it; what stands there first is read"
                problems.add("damaged file", path.name, reason)
            if text.replaced:
                problems.add("not Unicode", path.name, "what is not Unicode was replaced by \ufffd")
    except _DamageError as damage:
        reason = f"the JSON is cut off or damaged ({damage}); what comes after is not read"
        problems.add("damaged file", path.name, reason)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


def write_list(path: Path, items: Iterable[Mapping[str, Any]]) -> int:
    """Writes a JSON list, an item a line, whole or not at all; the way back from `stream_items(path, "item", ...)`.

    Returns:
        How many items there were.

    Raises:
        InputError: the file cannot be written.
    """
    count = 0
    with whole_file(path) as partial, partial.open("w", encoding="utf-8") as file:
        for item in items:
            file.write(",\n" if count else "[\n")
            file.write(json.dumps(item, ensure_ascii=False))
            count += 1
        file.write("\n]\n" if count else "[]\n")
    return count


class _DamageError(Exception):
    """Why the rest of a file cannot be read."""


class _Text:
    """A window on a JSON text that moves on."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._start = stream.read(_STEP)
        encoding = json.detect_encoding(self._start[:4])
        encoding = "utf-8-sig" if encoding == "utf-8" else encoding
        self._decode = codecs.getincrementaldecoder(encoding)(errors="replace")
        self._keys: list[str] = []  # of the object, as far as it is read
        self._in_object = False
        self._window = ""
        self._at = 0  # in the window
        self._before = 0  # characters before the window
        self._ended = False
        self.replaced = False  # whether bytes were no text

    def first(self) -> str:
        """The first character that is not space; "" if there is none."""
        return self._next()

    def whole_list(self) -> Iterator[Any]:
        """The items of a list that is all there is."""
        yield from self.items()
        if self._next():
            raise _DamageError(f"the list ends at character {self._before + self._at}, but not the file")

    def items(self) -> Iterator[Any]:
        """The items of a list that begins here."""
        self._expect("[")
        if self._next() == "]":
            self._at += 1
            return
        while True:
            yield self._value()
            if self._expect(",]") == "]":
                return

    def items_of(self, wanted: str) -> Iterator[Any]:
        """The items of the list under a key of an object that begins here; the first such key counts."""
        self._expect("{")
        if self._next() == "}":
            self._at += 1
            return
        self._in_object = True
        while self._in_object:
            if self._key() == wanted and self._next() == "[":
                yield from self.items()
                self._in_object = self._expect(",}") == ","
                return
            self._pass_value()

    def rest_of_object(self) -> Iterator[str]:
        """Goes on behind the list that was wanted to the end of all; keys that stood there before."""
        while self._in_object:
            known = frozenset(self._keys)
            key = str(self._key())
            if key in known:
                yield key
            self._pass_value()
        if self._next():
            raise _DamageError(f"the object ends at character {self._before + self._at}, but not the file")

    def _key(self) -> Any:
        key = self._value()
        if len(self._keys) < _MOST_KEYS:
            self._keys.append(str(key))
        self._expect(":")
        return key

    def _pass_value(self) -> None:
        if self._next() == "[":  # passed over an item at a time: it may be larger than memory
            for _ in self.items():
                pass
        else:
            self._value()
        self._in_object = self._expect(",}") == ","

    def _value(self) -> Any:
        self._next()
        step = _STEP
        while True:
            try:
                value, end = _DECODER.raw_decode(self._window, self._at)
                # A number may go on after the window's end.
                if end < len(self._window) or self._ended:
                    value, self._at = self._sound(value, end), end
                    return value
            except json.JSONDecodeError as error:
                if self._ended:
                    raise _DamageError(f"{error.msg} at character {self._before + error.pos}") from None
            except (RecursionError, ValueError) as error:
                raise _DamageError(f"{str(error)[:80]} near character {self._before + self._at}") from None
            if len(self._window) - self._at > LARGEST_ITEM:
                raise _DamageError(f"no value of a usual size at character {self._before + self._at}")
            self._more(step)
            step *= 2  # so that a large item is not tried too often

    def _sound(self, value: Any, end: int) -> Any:
        if self._window.find("\\u", self._at, end) < 0:
            return value
        sound = sound_unicode(value)
        self.replaced = self.replaced or sound != value
        return sound

    def _next(self) -> str:
        """The next character that is not space, which is not passed; "" at the end."""
        while True:
            match = _SPACE.match(self._window, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._window) or self._ended:
                return self._window[self._at : self._at + 1]
            self._more(_STEP)

    def _expect(self, characters: str) -> str:
        found = self._next()
        if not found or found not in characters:
            wanted = " or ".join(characters)
            said = f"{found!r} instead" if found else "the file ends"
            raise _DamageError(f"{wanted} expected at character {self._before + self._at}, {said}")
        self._at += 1
        return found

    def _more(self, count: int) -> None:
        piece, self._start = self._start or self._stream.read(count), b""
        self._ended = not piece
        text = self._decode.decode(piece, final=self._ended)
        self.replaced = self.replaced or "\ufffd" in text
        self._before += self._at
        self._window, self._at = self._window[self._at :] + text, 0
