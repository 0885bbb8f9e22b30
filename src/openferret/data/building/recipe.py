"""A recipe: what a data set is made of, in a YAML file (docs/grit.md has the reference of its keys)."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from openferret.checks import finite_number, shorten, whole_number
from openferret.data.files.regular import check_path
from openferret.data.files.yaml_file import (
    Content,
    apply_settings,
    check_keys,
    fill_variables,
    read_yaml,
    split_setting,
)
from openferret.errors import InputError

BadRecords: TypeAlias = Literal["skip", "refuse"]
PictureStore: TypeAlias = Literal["path", "tar"]
PictureCheck: TypeAlias = Literal["open", "exists", "none"]
T = TypeVar("T")

_SOURCE_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,59}")
_LARGEST_WEIGHT = 100.0


@dataclass(frozen=True)
class TaskRule:
    """How much of one task is taken from one source.

    Args:
        weight: copies of each sample; a fraction is a share of the samples, the same ones in every build.
        cap: most samples in all, applied after the weight; None for no limit.
        each: most samples of one picture; None for no limit.
    """

    weight: float = 1.0
    cap: int | None = None
    each: int | None = None


@dataclass(frozen=True)
class Split:
    """Which pictures of a source may be used.

    Args:
        only: a file of picture names or ids, one a line; no other picture is used.
        without: the same; none of these is used.
        held_out: leaves out a third of the pictures, chosen by SHA-256 of their ids.
    """

    only: Path | None = None
    without: Path | None = None
    held_out: bool = False


@dataclass(frozen=True)
class SourceRecipe:
    """One source: which reader, where its files are, and what is made of them.

    Args:
        name: its name in the recipe, in sample ids and in tables.
        kind: the reader (`openferret data sources` lists them).
        root: the folder, or file, of its annotations.
        pictures: the folder of its pictures; None for `root`.
        options: settings of the reader.
        tasks: what is written, and how much of it; empty for everything the source can give.
        cap: most samples of the source in all; None for no limit.
        split: which pictures may be used.
        licence: of its annotations, if it is one's own.
        hashes: a file of perceptual hashes, `name<TAB>16 hexadecimal digits` a line, for pictures that are not
            there or shall not be opened.
    """

    name: str
    kind: str
    root: Path
    pictures: Path | None
    options: Mapping[str, Any]
    tasks: Mapping[str, TaskRule]
    cap: int | None = None
    split: Split = Split()
    licence: str | None = None
    hashes: Path | None = None

    @property
    def picture_folder(self) -> Path:
        """Where its pictures are: where the recipe says, else beside the annotations."""
        if self.pictures is not None:
            return self.pictures
        return self.root if self.root.is_dir() else self.root.parent


@dataclass(frozen=True)
class EvaluationSet:
    """Pictures that a model is measured on.

    Args:
        name: what it is called in counts.
        of: where its pictures are from, as `coco` or `flickr30k`: ids are compared within one origin.
        names: files of ids or names: text, JSON, JSON lines or refs(*).p.
        pictures: a folder of its pictures, compared by name and by looks, or None.
        hashes: a file of their perceptual hashes, `name<TAB>16 hexadecimal digits`, in the place of the pictures.
    """

    name: str
    of: str
    names: tuple[Path, ...] = ()
    pictures: Path | None = None
    hashes: Path | None = None


@dataclass(frozen=True)
class Leaks:
    """Pictures that must not be in the data set.

    Args:
        sets: evaluation sets.
        near: bits of 64 by which looks may differ.
    """

    sets: tuple[EvaluationSet, ...] = ()
    near: int = 4


@dataclass(frozen=True)
class Recipe:
    """All of a build.

    Args:
        name: what the data set is called.
        seed: decides every choice by chance.
        bad_records: what a record that cannot be used does: it is skipped and counted, or ends the build.
        shard_size: samples in a file.
        pictures: `path` keeps where pictures are; `tar` packs them beside the samples.
        check_pictures: whether each picture is opened and compared by its looks, or looked for, or neither.
        sources: in the order of the file.
        negatives: whether questions about what is not there are written, and how many for one that is.
        templates: a file of phrasings; None for the one that ships.
        analogies: a file of what might be there instead, that a language model has named; None for the table.
        leaks: pictures that must not be in it.
        licence: of the whole, in the words of whoever builds it.
        digest: SHA-256 of the recipe before its variables are filled in: the same on every machine.
    """

    name: str
    sources: tuple[SourceRecipe, ...]
    seed: int = 0
    bad_records: BadRecords = "skip"
    shard_size: int = 20_000
    pictures: PictureStore = "path"
    check_pictures: PictureCheck = "open"
    negatives: float = 1.0
    templates: Path | None = None
    analogies: Path | None = None
    leaks: Leaks = Leaks()
    licence: str | None = None
    digest: str = ""


def recipe_names() -> list[str]:
    """Recipes that ship with the package, to be named instead of a file."""
    folder = files("openferret.data") / "recipes"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def load_recipe(
    place: str | Path, settings: Iterable[str] = (), paths: Mapping[str, str] | None = None
) -> Recipe:
    """Reads a recipe and checks all of it that can be checked without its sources.

    Args:
        place: a YAML file, or the name of a recipe that ships (`grit`, `grit-mini`).
        settings: `a.b=c`, set in the file's content before anything else; values are YAML.
        paths: values of `${NAME}`; they win over the file's `variables`.

    Raises:
        InputError: a key, value or variable that cannot be used; the message says where it stands.
    """
    content = apply_settings(read_yaml(_recipe_file(place)), settings)
    stated = content.pop("variables", None) or {}
    _check(isinstance(stated, Mapping), "variables", "NAME: folder, one a line")
    values = {str(name): str(value) for name, value in stated.items()} | dict(paths or {})
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
    filled = fill_variables(content, values)
    return _recipe({**filled, "digest": digest})


def path_variables(given: Sequence[str]) -> dict[str, str]:
    """`NAME=FOLDER`, as typed -> a mapping.

    >>> path_variables(["COCO=data/coco"])
    {'COCO': 'data/coco'}
    """
    return dict(split_setting(one) for one in given)


def _recipe_file(place: str | Path) -> Path:
    path = Path(place)
    if path.is_file() or path.suffix or path.parent != Path():
        return path
    if str(place) in recipe_names():
        return Path(str(files("openferret.data") / "recipes" / f"{place}.yaml"))
    raise InputError(f"{place} is neither a file nor a recipe that ships: {', '.join(recipe_names())}")


def _recipe(content: Content) -> Recipe:
    _keys(content, Recipe, "the recipe")
    sources = _mapping(content, "sources", "the recipe")
    if not sources:
        raise InputError("the recipe has no sources")
    read = tuple(_source(name, entry) for name, entry in sources.items())
    if all(one.tasks and not any(rule.weight for rule in one.tasks.values()) for one in read):
        raise InputError(
            "every task of the recipe has the weight 0, so nothing would be built; give some weight"
        )
    return Recipe(
        name=_text(content, "name", "the recipe"),
        sources=read,
        seed=_seed(content.get("seed", 0)),
        bad_records=_choice(content, "bad_records", ("skip", "refuse")),
        shard_size=_whole(content.get("shard_size", 20_000), "shard_size", 1),
        pictures=_choice(content, "pictures", ("path", "tar")),
        check_pictures=_choice(content, "check_pictures", ("open", "exists", "none")),
        negatives=_weight(content.get("negatives", 1.0), "negatives"),
        templates=_optional(content, "templates", "the recipe", _path),
        analogies=_optional(content, "analogies", "the recipe", _path),
        leaks=_leaks(_mapping(content, "leaks", "the recipe")),
        licence=None if content.get("licence") is None else _text(content, "licence", "the recipe"),
        digest=content["digest"],
    )


def _source(name: object, entry: object) -> SourceRecipe:
    if not isinstance(name, str) or not _SOURCE_NAME.fullmatch(name):
        raise InputError(
            f"{shorten(name)!r} is not a source's name; use small letters, digits and any of . _ -"
        )
    where = f"sources.{name}"
    _check(isinstance(entry, Mapping), where, "a mapping with `kind` and `root`")
    content: Content = entry  # type: ignore[assignment]
    _keys(content, SourceRecipe, where, without={"name"})
    return SourceRecipe(
        name=name,
        kind=_text(content, "kind", where),
        root=_path(content.get("root"), f"{where}.root"),
        pictures=_optional(content, "pictures", where, _path),
        options=_mapping(content, "options", where),
        tasks=_tasks(content.get("tasks"), where),
        cap=_optional(content, "cap", where, _count),
        split=_split(_mapping(content, "split", where), f"{where}.split"),
        licence=None if content.get("licence") is None else _text(content, "licence", where),
        hashes=_optional(content, "hashes", where, _path),
    )


def _tasks(given: object, where: str) -> dict[str, TaskRule]:
    if given is None:
        return {}
    if isinstance(given, list):
        given = dict.fromkeys(given)
    _check(isinstance(given, Mapping), f"{where}.tasks", "a list of tasks, or `task: {weight, cap, each}`")
    return {str(task): _rule(rule, f"{where}.tasks.{task}") for task, rule in given.items()}  # type: ignore[attr-defined]


def _rule(given: object, where: str) -> TaskRule:
    if given is None:
        return TaskRule()
    if isinstance(given, int | float) and not isinstance(given, bool):
        return TaskRule(_weight(given, where))
    _check(isinstance(given, Mapping), where, "a weight, or {weight, cap, each}")
    content: Content = given  # type: ignore[assignment]
    _keys(content, TaskRule, where)
    return TaskRule(
        weight=_weight(content.get("weight", 1.0), f"{where}.weight"),
        cap=_optional(content, "cap", where, _count),
        each=_optional(content, "each", where, _count),
    )


def _split(content: Content, where: str) -> Split:
    _keys(content, Split, where)
    held_out = content.get("held_out", False)
    _check(isinstance(held_out, bool), f"{where}.held_out", "true or false")
    return Split(
        only=_optional(content, "only", where, _path),
        without=_optional(content, "without", where, _path),
        held_out=held_out,
    )


def _leaks(content: Content) -> Leaks:
    _keys(content, Leaks, "leaks")
    near = _whole(content.get("near", 4), "leaks.near", 0)
    _check(near <= 32, "leaks.near", "at most 32 bits")
    sets = _mapping(content, "sets", "leaks")
    return Leaks(tuple(_evaluation_set(name, entry) for name, entry in sets.items()), near)


def _evaluation_set(name: str, entry: object) -> EvaluationSet:
    where = f"leaks.sets.{name}"
    _check(isinstance(entry, Mapping), where, "a mapping with `of`, and `names`, `pictures` or `hashes`")
    content: Content = entry  # type: ignore[assignment]
    _keys(content, EvaluationSet, where, without={"name"})
    names = content.get("names") or []
    names = [names] if isinstance(names, str) else names
    _check(isinstance(names, list), f"{where}.names", "a file, or a list of files")
    pictures = _optional(content, "pictures", where, _path)
    hashes = _optional(content, "hashes", where, _path)
    _check(bool(names) or bool(pictures or hashes), where, "given `names`, `pictures` or `hashes`")
    paths = tuple(_path(one, f"{where}.names") for one in names)
    return EvaluationSet(name, _text(content, "of", where), paths, pictures, hashes)


def _keys(content: Content, kind: type, where: str, without: set[str] | None = None) -> None:
    check_keys(content, {one.name for one in fields(kind)} - (without or set()), where)


def _check(good: bool, where: str, expected: str) -> None:
    if not good:
        raise InputError(f"{where} must be {expected}")


def _mapping(content: Content, key: str, where: str) -> Content:
    value = content.get(key) or {}
    _check(isinstance(value, Mapping), f"{where}: {key}", "a mapping, `name: value` on each line")
    return {str(name): one for name, one in value.items() if one is not None}


def _text(content: Content, key: str, where: str) -> str:
    value = content.get(key)
    _check(isinstance(value, str) and bool(value.strip()), f"{where}: {key}", "given, as text")
    return str(value)


def _choice(content: Content, key: str, known: tuple[Any, ...]) -> Any:
    value = content.get(key, known[0])
    _check(value in known, key, f"one of {', '.join(known)}, not {shorten(repr(value))}")
    return value


def _optional(content: Content, key: str, where: str, read: Callable[[Any, str], T]) -> T | None:
    return None if content.get(key) is None else read(content[key], f"{where}.{key}")


def _count(value: Any, where: str) -> int:
    return _whole(value, where, 1)


def _whole(value: Any, where: str, least: int) -> int:
    _check(
        not isinstance(value, bool), where, f"a whole number of {least} or more, not {value}"
    )  # YAML's yes
    return whole_number(value, where, least)


def _path(value: Any, where: str) -> Path:
    _check(isinstance(value, str) and bool(value), where, "a path")
    check_path(Path(value), where)
    return Path(value)


def _seed(value: Any) -> int:
    seed = _whole(value, "seed", 0)
    _check(seed < 2**64, "seed", "below 2^64")
    return seed


def _weight(value: Any, where: str) -> float:
    number = finite_number(value, where)
    _check(0 <= number <= _LARGEST_WEIGHT, where, f"between 0 and {_LARGEST_WEIGHT:g}, not {number:g}")
    return math.floor(number * 1e6 + 0.5) / 1e6
