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
from openferret.data.problems import Problems
from openferret.errors import InputError
from openferret.eval.files import sound_unicode

LARGEST_ITEM = 64 << 20  # characters
_STEP = 1 << 20  # bytes read at once
_MOST_DIGITS = 400  # more are no number that anything here could mean


def _whole(digits: str) -> float:
    return int(digits) if len(digits) <= _MOST_DIGITS else math.inf


_DECODER = json.JSONDecoder(parse_int=_whole)
_SPACE = re.compile(r"[ \t\n\r]*")


def first_character(path: Path) -> str:
    """The first character that is not space: "[" or "{" of JSON; "" for an empty file.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            while piece := stream.read(4096):
                words = piece.removeprefix(b"\xef\xbb\xbf").lstrip()
                if words:
                    return chr(words[0])
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    return ""


def stream_items(path: Path, place: str, problems: Problems) -> Iterator[Any]:
    """The items of one list of a JSON file, never the whole file: an item and a few MiB are held at a time.

    Args:
        path: of the file.
        place: where the list is: "item" for a file that is a list, "images.item" for a list in an object.
        problems: is told if the file is cut off or damaged, nested too deeply, or has an item of more than
            `LARGEST_ITEM` characters; the items before that are given.

    Raises:
        InputError: the file cannot be read, or is damaged and `problems` is strict.
    """
    key = place.removesuffix("item").removesuffix(".")
    try:
        with path.open("rb") as stream:
            text = _Text(stream)
            yield from text.items_of(key) if key else text.whole_list()
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
        self._decode = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        self._window = ""
        self._at = 0  # in the window
        self._before = 0  # characters before the window
        self._ended = False
        self.replaced = False  # whether bytes were no text

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
            return
        while True:
            key = self._value()
            self._expect(":")
            is_list = self._next() == "["
            if key == wanted and is_list:
                yield from self.items()
                return
            if is_list:  # passed over an item at a time: it may be larger than memory
                for _ in self.items():
                    pass
            else:
                self._value()
            if self._expect(",}") == "}":
                return

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
        piece = self._stream.read(count)
        self._ended = not piece
        text = self._decode.decode(piece, final=self._ended)
        self.replaced = self.replaced or "\ufffd" in text
        self._before += self._at
        self._window, self._at = self._window[self._at :] + text, 0
