"""The wording of questions and answers, from a file that a person can edit."""

from __future__ import annotations

import difflib
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from openferret.checks import shorten
from openferret.data.files.yaml_file import check_keys, read_yaml
from openferret.data.words.english import sentence
from openferret.errors import InputError

_SLOT = re.compile(r"\{([^{}]*)\}")
_STRAY = re.compile(r"[{}]|<(?:region|box|phrase|image)\b")


def _slots(required: str, optional: str = "") -> tuple[frozenset[str], frozenset[str]]:
    return frozenset(required.split()), frozenset(optional.split())


# What the phrasings of a task must have ("a|b": one of the two), and what else they may have.
_THERE = _slots("", "name noun there_is")
_BUT = _slots("grounded there_is_other", "name noun there_is")
SLOTS: Mapping[str, Mapping[str, tuple[frozenset[str], frozenset[str]]]] = {
    "object": {"ask": _slots("region"), "answer": _slots("name", "it_is this_is")},
    "objects": {"ask": _slots("regions"), "answer": _slots("names")},
    "attribute": {"ask": _slots("region", "noun is"), "answer": _slots("attributes", "noun is")},
    "colour": {"ask": _slots("region", "noun is"), "answer": _slots("colour", "noun is")},
    "relationship": {"ask": _slots("first second"), "answer": _slots("statement")},
    "related_object": {"ask": _slots("question"), "answer": _slots("grounded")},
    "description": {"ask": _slots("region"), "answer": _slots("text")},
    "phrase": {
        "ask": _slots("phrase", "is"),
        "answer": _slots("grounded", "is"),
        "none": _THERE,
        "but": _BUT,
    },
    "phrases": {"ask": _slots("phrases"), "answer": _slots("grounded")},
    "expression": {"ask": _slots("phrase"), "answer": _slots("grounded")},
    "all_instances": {
        "ask": _slots("plural|noun"),
        "answer": _slots("grounded", "there_is"),
        "none": _slots("plural"),
        "but": _slots("plural grounded there_is_other"),
    },
    "presence": {
        "ask": _slots("name", "is_there"),
        "answer": _slots("grounded", "there_is is"),
        "none": _THERE,
        "but": _BUT,
    },
    "grounded_caption": {"ask": _slots(""), "answer": _slots("caption")},
}


@dataclass(frozen=True)
class Templates:
    """All phrasings: `phrasings[task][part]`, part being `ask`, `answer`, `none` or `but`."""

    phrasings: Mapping[str, Mapping[str, tuple[str, ...]]]

    def choose(self, task: str, part: str, chance: random.Random, without: str = "") -> tuple[str, str]:
        """A phrasing and its name, as "object.ask.3" (the first is 1).

        Args:
            task: a key of `SLOTS`.
            part: `ask`, `answer`, `none` or `but`.
            chance: decides.
            without: a slot that it shall not have, if any has not.
        """
        lines = self.phrasings[task][part]
        fitting = [at for at, line in enumerate(lines) if not without or f"{{{without}}}" not in line]
        number = chance.choice(fitting or range(len(lines)))
        return lines[number], f"{task}.{part}.{number + 1}"


def fill(phrasing: str, **words: str) -> str:
    """A phrasing with its words, and a capital at the beginning of each sentence of its own.

    >>> fill("{is_there} {name} here?", is_there="is there", name="a dog")
    'Is there a dog here?'
    """
    return "".join(sentence(part.format_map(words)) for part in _sentences(phrasing))


@cache
def _sentences(phrasing: str) -> tuple[str, ...]:
    return tuple(re.split(r"(?<=[.?!] )", phrasing))


def load_templates(path: Path | None = None) -> Templates:
    """Reads a file of phrasings.

    Args:
        path: the file; None for the one that ships. A file may leave tasks out: they are taken from that one.

    Raises:
        InputError: a task, part or slot that is not known, with the nearest that is; a slot that is missing; a mark
            of a box or region written out.
    """
    shipped = _shipped()
    if path is None:
        return shipped
    return Templates({**shipped.phrasings, **_checked(read_yaml(path), path)})


@cache
def _shipped() -> Templates:
    path = Path(str(files("openferret.data.templates") / "templates.yaml"))
    return Templates(_checked(read_yaml(path), path))


def _checked(content: Mapping[str, Any], path: Path) -> dict[str, dict[str, tuple[str, ...]]]:
    check_keys(content, SLOTS, str(path))
    return {task: _task(task, parts, path) for task, parts in content.items()}


def _task(task: str, parts: Any, path: Path) -> dict[str, tuple[str, ...]]:
    wanted = SLOTS[task]
    if not isinstance(parts, Mapping):
        raise InputError(f"{path}: {task} must be a mapping with {', '.join(wanted)}")
    check_keys(parts, wanted, f"{path}: {task}")
    missing = [part for part in wanted if not parts.get(part)]
    if missing:
        raise InputError(f"{path}: {task} has no {missing[0]}; give it at least one phrasing")
    return {part: _lines(parts[part], *wanted[part], f"{path}: {task}.{part}") for part in wanted}


def _lines(lines: Any, required: frozenset[str], optional: frozenset[str], place: str) -> tuple[str, ...]:
    if not isinstance(lines, list):
        raise InputError(f"{place} must be a list of phrasings, each on a line that begins with a dash")
    for number, line in enumerate(lines, 1):
        where = f"{place}, phrasing {number}"
        if not isinstance(line, str) or not line.strip():
            raise InputError(f"{where} must be text, not {shorten(repr(line))}; quotes help")
        _check_line(line, required, optional, where)
    return tuple(" ".join(line.split()) for line in lines)


def _check_line(line: str, required: frozenset[str], optional: frozenset[str], where: str) -> None:
    used = _SLOT.findall(line)
    known = sorted({name for one in required | optional for name in one.split("|")})
    for name in used:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {{{near[0]}}}?" if near else f"known here: {', '.join(known) or 'none'}"
            raise InputError(f"{where} has {{{shorten(name)}}}, which nothing fills; {hint}")
    missing = sorted(one for one in required if not set(one.split("|")) & set(used))
    if missing:
        raise InputError(f"{where} lacks {{{missing[0].replace('|', '} or {')}}}")
    stray = _STRAY.search(_SLOT.sub("", line))
    if stray:
        raise InputError(
            f"{where} has {stray.group()!r}; regions and boxes are only written by words in braces"
        )
