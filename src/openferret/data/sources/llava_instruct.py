"""LLaVA-Instruct: dialogues about COCO pictures without boxes; `llava_instruct_150k.json` or one of its parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openferret.data.files.json_stream import first_character, stream_items
from openferret.data.marks import escape_marks
from openferret.data.problems import Problems
from openferret.data.records import Dialogue, Record
from openferret.data.schema import PictureReference, Turn
from openferret.data.sources.reading import (
    find_file,
    locate,
    measured_picture,
    missing_files,
    path_text,
    whole_id,
)
from openferret.errors import InputError

LICENCE = "CC BY-NC 4.0"
TITLE = "LLaVA-Instruct"
_PARTS = ("llava_instruct_150k.json", "llava_instruct_80k.json", "conversation_58k.json")
_SPEAKERS = ("human", "gpt")


def read(root: Path, problems: Problems, *, pictures: Path | None = None, part: str = "") -> Iterator[Record]:
    """Records, one an entry of the file, each with one dialogue.

    Args:
        root: the json file, or a folder with it.
        problems: is told of entries that cannot be used.
        pictures: folder of COCO's train2017 pictures; without it the pictures' sizes stay unknown.
        part: the file's name, as "detail_23k.json"; "" for `llava_instruct_150k.json`, or the first there is.

    Raises:
        InputError: the file is missing, or is no list.
    """
    names = [part] if part else [*_PARTS, "*.json"]
    path = root if root.is_file() else find_file(root, names)
    if path is None:
        raise missing_files(TITLE, root, {part or _PARTS[0]: "a list of conversations"})
    if first_character(path) != "[":
        raise InputError(f"{path} is not of LLaVA's layout: it should be a list of conversations")
    for number, item in enumerate(stream_items(path, "item", problems)):
        place = f"{path.name} entry {number}"
        try:
            turns = _turns(item)
        except InputError as error:
            problems.add("malformed conversation", place, str(error))
            continue
        # The published ids are those of pictures: conversation, detail and reasoning share one.
        file, key = path_text(item.get("image")), f"{item.get('id', 'entry')}-{number}"
        if not file:
            problems.add("no picture", place, "it names no picture")
            continue
        picture = _picture(file, pictures, problems)
        if picture is not None:
            yield Record(picture, LICENCE, dialogues=(Dialogue(turns, key),), split=path.stem)


def _turns(item: Any) -> tuple[Turn, ...]:
    conversation = item.get("conversations") if isinstance(item, dict) else None
    if not isinstance(conversation, list) or not conversation or len(conversation) % 2:
        raise InputError("it has no conversation with an answer to every question")
    turns = []
    for number, turn in enumerate(conversation):
        said = turn.get("value") if isinstance(turn, dict) else None
        if not isinstance(said, str) or turn.get("from") != _SPEAKERS[number % 2]:
            raise InputError(f"turn {number} should be the {_SPEAKERS[number % 2]}'s words")
        text = escape_marks(said.replace("<image>", "").strip())
        turns.append(Turn("assistant" if number % 2 else "user", text))
    return tuple(turns)


def _picture(file: str, pictures: Path | None, problems: Problems) -> PictureReference | None:
    name = locate(file, pictures)
    number = whole_id(Path(name).stem.split("_")[-1])
    key = Path(name).stem if number is None else str(number)
    same_as = () if number is None else (f"coco:{number}",)
    if pictures is not None:
        return measured_picture(name, pictures, "llava_instruct", key, problems, same_as)
    return PictureReference(name, 0, 0, "llava_instruct", key, same_as) if name else None
