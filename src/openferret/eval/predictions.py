"""Replies as lines of JSON, written as they come.

A line is `{"question": ID, "fingerprint": ..., "answer": {...}}`, with `raw` where the model's own words are
known and `ranked` boxes where a model has them, or `{"question": ID, "fingerprint": ..., "error": "..."}`.
A run that is killed loses at most the line
it was writing, which is repaired when it goes on; a question that failed is asked again. Other tools' lines
are read too, or a JSON array of the same: an id (`question`, `question_id`, `image_id` or `id`), a `text` or
`answer` as the model wrote it, and its `dialect` if its boxes are not written as Ferret's.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from openferret.answer import Answer
from openferret.errors import InputError
from openferret.eval.dialects import DIALECTS, PIXELS
from openferret.eval.files import parse_json
from openferret.eval.metrics.boxes import BoxNumbers
from openferret.eval.questions import Question, Reply

_IDS = ("question", "question_id", "image_id", "id")
_LINE_START = b'{"question": '
_PACKED = (b"\x1f\x8b", b"PK", b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd")  # gzip, zip, bzip2, xz, zstandard


@dataclass
class Predictions:
    """A predictions file that is being written, and what it holds already."""

    stream: TextIO
    replies: dict[str, Reply] = field(default_factory=dict)

    def write(self, question: Question, reply: Reply) -> None:
        """Keeps a reply and writes its line at once."""
        record: dict[str, Any] = {"question": question.id, "fingerprint": question.fingerprint}
        if reply.answer is None:
            record["error"] = reply.error or "no answer"
        else:
            record["answer"] = reply.answer.to_dict()
            record |= {} if reply.raw is None else {"raw": reply.raw}
            record |= {} if reply.dialect == "ferret" else {"dialect": reply.dialect}
            record |= {"ranked": reply.ranked} if reply.ranked else {}
        print(json.dumps(record), file=self.stream, flush=True)
        self.replies[question.id] = reply


@contextmanager
def open_predictions(path: Path, questions: Sequence[Question], resume: bool) -> Iterator[Predictions]:
    """Opens a predictions file to append to, its torn last line repaired.

    Raises:
        InputError: it exists and `resume` is False, it cannot be written, or it is something else; it is left
            as it was.
    """
    try:
        if path.exists() and path.stat().st_size and not resume:
            raise InputError(f"{path} exists: give --resume to go on, or another --out")
        content = path.read_bytes() if path.exists() else b""
        whole, torn = content.rpartition(b"\n")[0], content.rpartition(b"\n")[2]
        if not _may_be_ours(torn):
            raise InputError(f"{path} is not a predictions file: its last line is something else")
        replies = _read_lines(whole, path, {one.id: one for one in questions})
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as stream:
            stream.truncate(len(content) - len(torn))
            yield Predictions(stream, {key: reply for key, reply in replies.items() if reply.answer})
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None


def read_predictions(path: Path, questions: Sequence[Question]) -> dict[str, Reply]:
    """Replies by question id, our own or another tool's.

    Raises:
        InputError: a line is malformed, answers a question that is not asked or was worded otherwise, or one
            that was answered before; its number is named.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    asked = {one.id: one for one in questions}
    content = content.removeprefix(codecs.BOM_UTF8)
    if content.lstrip().startswith(b"["):
        return _read_array(content, path, asked)
    whole, _, last = content.rpartition(b"\n")
    # A run that was killed may have left half a line; any other damage is told.
    torn = _may_be_ours(last) and not _is_json(last)
    return _read_lines(whole if torn else content, path, asked)


def _may_be_ours(torn: bytes) -> bool:
    """Whether a piece of a line may be the beginning of one that we write."""
    return torn[: len(_LINE_START)] == _LINE_START[: len(torn)]


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _read_lines(content: bytes, path: Path, asked: Mapping[str, Question]) -> dict[str, Reply]:
    replies: dict[str, Reply] = {}
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        place = f"{path} line {number}"
        _add_reply(replies, parse_json(_decode(line, place), place), place, asked)
    return replies


def _read_array(content: bytes, path: Path, asked: Mapping[str, Question]) -> dict[str, Reply]:
    replies: dict[str, Reply] = {}
    for number, record in enumerate(parse_json(_decode(content, str(path)), str(path)), 1):
        _add_reply(replies, record, f"{path} entry {number}", asked)
    return replies


def _decode(content: bytes, place: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        packed = " but packed: unpack it first" if content.startswith(_PACKED) else ""
        raise InputError(f"{place} is not UTF-8 text{packed}") from None


def _add_reply(replies: dict[str, Reply], record: Any, place: str, asked: Mapping[str, Question]) -> None:
    name = next((key for key in _IDS if key in record), None) if isinstance(record, dict) else None
    if name is None:
        raise InputError(f'{place} is not a prediction: {{"question": ID, "text": "..."}} is expected')
    key = str(record[name])
    if key not in asked:
        known = f" (its first is {next(iter(asked))[:60]!r})" if asked else ""
        raise InputError(f"{place} answers question {key[:60]!r}, which this task does not ask{known}")
    if record.get("fingerprint", asked[key].fingerprint) != asked[key].fingerprint:
        raise InputError(f"{place} answers question {key[:60]!r} as it was worded in another run")
    if key in replies and replies[key].answer:
        raise InputError(f"{place} answers question {key[:60]!r} a second time")
    replies[key] = _read_reply(record, place)


def _read_reply(record: Mapping[str, Any], place: str) -> Reply:
    if "error" in record:
        return Reply(None, error=str(record["error"]))
    answer, raw = record.get("answer"), record.get("raw")
    dialect = str(record.get("dialect", "ferret"))
    try:
        ranked = _read_ranked(record.get("ranked", ()))
        if isinstance(answer, Mapping):
            raw = None if raw is None else str(raw)
            return Reply(Answer.from_dict(answer), raw, ranked=ranked, dialect=dialect)
        words = record.get("text", answer)
        if not isinstance(words, str):
            raise InputError('neither "answer" nor "text" nor "error" can be used')
        if dialect not in DIALECTS:
            raise InputError(f"there is no dialect {dialect[:60]!r}: give one of {', '.join(DIALECTS)}")
        if dialect in PIXELS and not {"width", "height"} <= record.keys():
            raise InputError(f"boxes of {dialect} are pixels: give width and height of the picture too")
        size = int(record.get("width", 1000)), int(record.get("height", 1000))
        return Reply(DIALECTS[dialect](words, *size), words, ranked=ranked, dialect=dialect)
    except (InputError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InputError(f"{place}: {error}") from None


def _read_ranked(content: Any) -> tuple[tuple[BoxNumbers, ...], ...]:
    """Boxes of four finite numbers 0..1 for each phrase; TypeError or ValueError if they are something else."""
    ranked = []
    for several in content:
        boxes = [(float(x1), float(y1), float(x2), float(y2)) for x1, y1, x2, y2 in several]
        if not all(0 <= number <= 1 for box in boxes for number in box):
            raise ValueError("a ranked box is not four numbers from 0 to 1")
        ranked.append(tuple(boxes))
    return tuple(ranked)
