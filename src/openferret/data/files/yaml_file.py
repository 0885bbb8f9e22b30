"""YAML that a person writes: read with care, changed from the command line, path variables filled in."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from openferret.checks import shorten
from openferret.errors import InputError
from openferret.eval.files import read_text, sound_unicode

Content: TypeAlias = Mapping[str, Any]

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_NAME = re.compile(r"[A-Za-z_]\w*")


class _OnceOnly(yaml.SafeLoader):
    """A safe loader that refuses what a recipe has no use for: a key twice, and aliases, which may explode."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases are not used here", problem_mark=_here(self))
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            keys = [key.value for key, _ in node.value]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise yaml.MarkedYAMLError(
                problem=f"the key {shorten(twice)!r} stands twice", problem_mark=node.start_mark
            )
        return mapping


def _here(loader: _OnceOnly) -> Any:
    return loader.peek_event().start_mark  # type: ignore[no-untyped-call]


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file whose top is a mapping.

    Raises:
        InputError: it is missing, malformed, has a key twice or an alias; the line is named.
    """
    try:
        # A subclass of SafeLoader: no objects are made.
        content = sound_unicode(yaml.load(read_text(path), _OnceOnly))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f" line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{line} is not YAML that can be used: {error.problem}") from None
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        raise InputError(f"{path} is not YAML that can be used: {shorten(error)}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} should hold a mapping, `key: value` on each line")
    return content


def split_setting(text: str) -> tuple[str, str]:
    """`a.b=c` -> its name and value.

    Raises:
        InputError: there is no name or no `=`.

    >>> split_setting("sources.coco.cap=100")
    ('sources.coco.cap', '100')
    """
    name, equals, value = text.partition("=")
    if not equals or not all(name.strip().split(".")):
        raise InputError(f"{shorten(text)!r} is not a setting; write name=value, as in seed=1")
    return name.strip(), value


def apply_settings(content: Content, settings: Iterable[str]) -> dict[str, Any]:
    """A copy of the content with `a.b=c` set in it; values are YAML, `null` removes.

    Raises:
        InputError: a setting that is not of this form, or goes through something that is not a mapping.

    >>> apply_settings({"seed": 0}, ["seed=3", "leaks.near=2"])
    {'seed': 3, 'leaks': {'near': 2}}
    """
    changed = dict(content)
    for setting in settings:
        name, text = split_setting(setting)
        try:
            value = yaml.load(text, _OnceOnly)
        except yaml.YAMLError:
            raise InputError(f"the value of the setting {shorten(setting)!r} is not YAML") from None
        _put(changed, name.split("."), value, name)
    return changed


def _put(place: dict[str, Any], names: Sequence[str], value: Any, full: str) -> None:
    first, *rest = names
    if not rest:
        place[first] = value
        return
    inner = place.get(first) or {}
    if not isinstance(inner, dict):
        raise InputError(f"the setting {shorten(full)!r} goes through {first!r}, which is no mapping")
    place[first] = inner = dict(inner)
    _put(inner, rest, value, full)


def fill_variables(content: Any, values: Mapping[str, str]) -> Any:
    """The content with each `${NAME}` of its texts replaced.

    Raises:
        InputError: a name without a value.

    >>> fill_variables({"images": "${COCO}/train2017"}, {"COCO": "data/coco"})
    {'images': 'data/coco/train2017'}
    """
    if isinstance(content, dict):
        return {key: fill_variables(value, values) for key, value in content.items()}
    if isinstance(content, list):
        return [fill_variables(value, values) for value in content]
    if isinstance(content, str):
        return _VARIABLE.sub(lambda match: _value(match.group(1), values), content)
    return content


def _value(name: str, values: Mapping[str, str]) -> str:
    if not _NAME.fullmatch(name):
        raise InputError(f"${{{shorten(name)}}} is not a variable; write ${{NAME}}")
    if name not in values:
        raise InputError(f"the recipe uses ${{{name}}}: give --path {name}=FOLDER")
    return values[name]


def check_keys(content: Content, known: Iterable[str], where: str) -> None:
    """Refuses a key that is not known, and names the nearest that is.

    Raises:
        InputError: the key, where it stands, and what was probably meant.

    >>> check_keys({"seed": 0}, ["seed"], "the recipe")
    """
    names = sorted(known)
    for key in content:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(names)}"
            raise InputError(f"{where} has no key {shorten(repr(key))}; {hint}")
