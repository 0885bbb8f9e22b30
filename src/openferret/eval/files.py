"""Files of strangers, read with care: every failure is one line that names the file and the line in it.

JSON may be nested a million deep, XML may ask for other files, a pickle may run code: none of it happens.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.parsers import expat

from openferret.errors import InputError

_HALVES = re.compile("[\ud800-\udfff]")
_PICKLED = {("collections", "OrderedDict"): OrderedDict}


def is_regular(path: Path) -> bool:
    """Whether it is a regular file that is there; False also for a name that no file can have, as one too long.

    >>> is_regular(Path("x" * 5000)), is_regular(Path("a" + chr(0)))
    (False, False)
    """
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_text(path: Path) -> str:
    """A UTF-8 text file.

    Raises:
        InputError: it is missing, a folder, or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


def read_names(path: Path) -> list[str]:
    """Names or ids, one a line, each once; a name may have spaces in it.

    Raises:
        InputError: it cannot be read.
    """
    return list(dict.fromkeys(name for line in read_text(path).split("\n") if (name := line.strip())))


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
        InputError: it is missing, malformed or nested too deeply; the line is named.
    """
    return parse_json(read_text(path), str(path))


def sound_unicode(value: Any) -> Any:
    r"""Lists, dictionaries and texts with half characters replaced: JSON and YAML can say them, no file can.

    >>> sound_unicode(["a", {"b": "\ud800"}]) == ["a", {"b": "\ufffd"}]
    True
    """
    if isinstance(value, str):
        return value if value.isascii() else _HALVES.sub("\ufffd", value)
    if isinstance(value, list):
        return [sound_unicode(one) for one in value]
    if isinstance(value, dict):
        return {sound_unicode(key): sound_unicode(one) for key, one in value.items()}
    return value


def parse_json(text: str, place: str) -> Any:
    """JSON text; `place` is what a message calls it.

    >>> parse_json('{"a": 1}', "here")
    {'a': 1}
    """
    try:
        content = json.loads(text)
        return sound_unicode(content) if "\\u" in text else content
    except json.JSONDecodeError as error:
        where = f"{place} line {error.lineno}" if "\n" in text.rstrip("\n") or error.lineno > 1 else place
        raise InputError(f"{where} is not JSON: {error.msg}") from None
    except RecursionError:
        raise InputError(f"{place} is not used: its JSON is nested too deeply") from None
    except ValueError as error:  # an integer of more digits than Python reads
        raise InputError(f"{place} is not JSON that can be read: {error}") from None


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file of JSON lines with their line numbers; blank lines are skipped.

    Raises:
        InputError: a line is not a JSON object; its number is named.
    """
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            content = parse_json(line, f"{path} line {number}")
            if not isinstance(content, dict):
                raise InputError(f"{path} line {number} is not a JSON object {{...}}")
            yield number, content


def read_records(path: Path) -> list[dict[str, Any]]:
    """Objects of a JSON array, or of JSON lines, whichever the file is.

    Raises:
        InputError: it is neither.
    """
    text = read_text(path)
    if not text.lstrip().startswith("["):
        return [record for _, record in read_json_lines(path)]
    content = parse_json(text, str(path))
    if not all(isinstance(one, dict) for one in content):
        raise InputError(f"{path} is not a list of JSON objects")
    return list(content)


def check_xml(path: Path) -> None:
    """Refuses XML that is malformed or declares a document type: entities, internal or external, need one.

    Raises:
        InputError: the file and the line are named.
    """
    parser = expat.ParserCreate()

    def refuse(*_: Any) -> None:
        raise InputError(
            f"{path} line {parser.CurrentLineNumber} declares a document type; annotations have none"
        )

    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise InputError(f"{path} line {error.lineno} is not XML: {expat.ErrorString(error.code)}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


class _PlainUnpickler(pickle.Unpickler):
    """Lists, dictionaries, numbers and texts; nothing that is called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _PICKLED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _PICKLED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it asks for an object outside the file")


def read_pickle(path: Path) -> Any:
    """A pickle of plain data, as `refs(unc).p` of RefCOCO is; what it names beyond that is refused, not run.

    Raises:
        InputError: it is missing, damaged, or asks for anything but plain data.
    """
    try:
        # The files of 2016 were written by Python 2, whose texts are bytes.
        return _PlainUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except pickle.UnpicklingError as error:
        raise InputError(f"{path} is not a pickle of plain data: {error}; nothing of it was run") from None
    except (
        *(AttributeError, EOFError, ImportError, LookupError, MemoryError, OverflowError),
        *(RecursionError, TypeError, ValueError, zlib.error),
    ) as error:
        raise InputError(f"{path} is a damaged pickle ({type(error).__name__})") from None
