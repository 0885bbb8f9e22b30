"""Training recipes as YAML: read into `openferret.train.recipes.recipe`'s nouns, with every key and type checked."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from openferret.checks import shorten
from openferret.data.files.yaml_file import apply_settings, check_keys, read_yaml
from openferret.errors import InputError
from openferret.train.recipes.recipe import TrainingRecipe


def load_recipe(name: str, settings: Iterable[str] = ()) -> TrainingRecipe:
    """A recipe from a file, or one that ships.

    Args:
        name: a YAML file, or one of `shipped_recipes()`, with or without ".yaml".
        settings: `a.b=c` that change it, values in YAML.

    Raises:
        InputError: no such recipe, or a key or value that cannot be used; the nearest known key is named.

    >>> load_recipe("finetune", ["data.build=[built]", "optimizer.warmup=0.1"]).optimizer.warmup
    0.1
    """
    return read_recipe(apply_settings(read_yaml(_find(name)), settings))


def read_recipe(content: Mapping[str, Any]) -> TrainingRecipe:
    """The content of a recipe file as a recipe; InputError as `load_recipe`."""
    recipe = _read(TrainingRecipe, content, "the recipe")
    if not isinstance(recipe, TrainingRecipe):
        raise InputError("the recipe must be a mapping, `key: value` on each line")
    return recipe


def shipped_recipes() -> dict[str, Path]:
    """Recipes that come with the package, by name."""
    folder = Path(str(resources.files("openferret.train") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _find(name: str) -> Path:
    path, shipped = Path(name), shipped_recipes()
    if path.is_file():
        return path
    known = shipped.get(name.removesuffix(".yaml"))
    if known is None:
        raise InputError(
            f"there is no recipe {shorten(name)!r}: give a YAML file, or one that ships ({', '.join(shipped)})"
        )
    return known


def _read(kind: Any, value: Any, where: str) -> Any:
    """A value of YAML as a value of a type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if is_dataclass(kind) and isinstance(kind, type):
        return _read_noun(kind, value, where)
    if origin in (Union, types.UnionType):
        inner = [one for one in arguments if one is not type(None)]
        return None if value is None else _read(inner[0], value, where)
    if origin is Literal:
        _expect(value in arguments, where, f"one of {', '.join(map(str, arguments))}", value)
        return value
    if origin is tuple:
        values = value if isinstance(value, list | tuple) else [value]
        return tuple(_read(arguments[0], one, where) for one in values)
    if origin is not None and issubclass(origin, Mapping):
        _expect(isinstance(value, Mapping), where, "a mapping, `name: value` on each line", value)
        if get_origin(arguments[0]) is Literal:
            check_keys(value, get_args(arguments[0]), where)
        return {
            str(key): _read(arguments[1], one, f"{where}.{key}")
            for key, one in value.items()
            if one is not None
        }
    if kind is Path:
        _expect(isinstance(value, str) and bool(value), where, "a path", value)
        return Path(value).expanduser()
    if kind is bool:
        _expect(isinstance(value, bool), where, "true or false", value)
        return value
    if kind is int:
        _expect(isinstance(value, int) and not isinstance(value, bool), where, "a whole number", value)
        return value
    if kind is float:
        return _number(value, where)
    _expect(isinstance(value, str), where, "text", value)
    return value


def _read_noun(kind: type[Any], value: Any, where: str) -> Any:
    _expect(isinstance(value, Mapping), where, "a mapping, `key: value` on each line", value)
    known = {one.name: one for one in fields(kind)}
    check_keys(value, known, where)
    hints = get_type_hints(kind)
    inside = "" if where == "the recipe" else f"{where}."
    given = {
        name: _read(hints[name], one, f"{inside}{name}")
        for name, one in value.items()
        if one is not None or known[name].default is None
    }
    for name, one in known.items():
        if name not in given and one.default is MISSING and one.default_factory is MISSING:
            raise InputError(f"{where} needs the key {name!r}")
    return kind(**given)


def _number(value: Any, where: str) -> float:
    # YAML 1.1 reads 2e-5, without a point, as text.
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            _expect(False, where, "a number", value)
    _expect(isinstance(value, int | float) and not isinstance(value, bool), where, "a number", value)
    return float(value)


def _expect(holds: bool, where: str, expected: str, value: Any) -> None:
    if not holds:
        raise InputError(f"{where} must be {expected}, not {shorten(repr(value))}")


def to_yaml(recipe: TrainingRecipe) -> str:
    """A recipe in full, defaults included; `load_recipe` reads it back as an equal one."""
    import yaml

    plain = {
        key: (value if not isinstance(value, dict) else {k: v for k, v in value.items() if v is not None})
        for key, value in _plain(recipe).items()
        if value is not None
    }
    return yaml.safe_dump(plain, sort_keys=False)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value
