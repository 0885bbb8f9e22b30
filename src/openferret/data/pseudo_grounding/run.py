"""All dialogues of a source grounded, each kept as soon as it is done: a run that is killed goes on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openferret.data.files.kept import Kept
from openferret.data.files.run_folder import check_run, run_folder
from openferret.data.pseudo_grounding.detectors import Detector
from openferret.data.pseudo_grounding.grounding import Grounding, ground_dialogue, grounded_id
from openferret.data.records import Dialogue, Record
from openferret.data.schema import Sample
from openferret.data.words.chunking import noun_phrases
from openferret.data.words.lexicon import Lexicon, load_lexicon
from openferret.errors import InputError
from openferret.images import load_image
from openferret.phrases import without_determiner

if TYPE_CHECKING:
    from PIL import Image

_GROUNDED = "grounded.jsonl"
_KINDS = {"detail": "detail", "reasoning": "reasoning"}
_TIMED = 3  # dialogues that a dry run really grounds, to know how long one takes


@dataclass
class Summary:
    """How a run went.

    Attributes:
        grounded: dialogues that got boxes.
        empty: others in which nothing was found; they make no sample.
        failed: dialogues whose picture cannot be used.
        known: dialogues that an earlier run had done.
    """

    grounded: int = 0
    empty: int = 0
    failed: int = 0
    known: int = 0


@dataclass(frozen=True)
class Estimate:
    """What a run would do.

    Args:
        dialogues: to be grounded.
        phrases: to be looked for, each once a dialogue.
        seconds: for all of them, after the time that the first few took; None if none was tried.
    """

    dialogues: int
    phrases: int
    seconds: float | None


def estimate_run(
    records: Iterable[Record],
    pictures: Path,
    folder: Path | None = None,
    detector: Detector | None = None,
    how: Grounding | None = None,
) -> Estimate:
    """A dry run: nothing is kept.

    Args:
        records: as for `ground_records`.
        pictures: the folder of their pictures.
        folder: of the run, if some of it may be done already; what is done is not counted.
        detector: tried on the first few dialogues; None to count only.
        how: boxes are chosen.

    Raises:
        InputError: the folder's file is damaged.
    """
    lexicon = load_lexicon()
    kept = Kept(folder / _GROUNDED, "id", in_memory=False) if folder is not None else None
    failed = _failed(kept) if kept is not None else set()
    dialogues = phrases = 0
    took: list[float] = []
    for record, dialogue in _dialogues(records):
        name = grounded_id(record, dialogue, _task(record))
        if kept is not None and name in kept and name not in failed:
            continue
        dialogues += 1
        phrases += len(_phrases(dialogue, lexicon))
        if detector is not None and len(took) < _TIMED:
            image = load_image(pictures / record.picture.file)
            began = time.perf_counter()
            ground_dialogue(record, dialogue, image, detector, how, _task(record), lexicon)
            took.append(time.perf_counter() - began)
    # The first of several warms caches up and is not like the others.
    each = min(took, default=None)
    return Estimate(dialogues, phrases, None if each is None else each * dialogues)


def ground_records(
    records: Iterable[Record],
    pictures: Path,
    folder: Path,
    detector: Detector,
    how: Grounding | None = None,
    workers: int = 2,
    on_done: Callable[[Summary], None] | None = None,
) -> Summary:
    """Grounds every dialogue of the records.

    Args:
        records: read as they are needed; those without dialogues are passed over.
        pictures: the folder of their pictures.
        folder: gets `grounded.jsonl` and `run.json`; one of an earlier run with the same detector and thresholds is
            gone on with.
        detector: finds phrases; asked from one thread.
        how: boxes are chosen.
        workers: pictures that are opened ahead while the detector works.
        on_done: is told after each dialogue, from the calling thread.

    Raises:
        InputError: a folder of a run with other settings, or one that cannot be written.
    """
    if workers < 1:
        raise InputError(f"workers must be at least 1, not {workers}")
    settings, lexicon, summary = how or Grounding(), load_lexicon(), Summary()
    with (
        run_folder(folder, {"detector": detector.name, **asdict(settings)}),
        ThreadPoolExecutor(workers, thread_name_prefix="picture") as pool,
    ):
        kept = Kept(folder / _GROUNDED, "id", in_memory=False)
        coming = _to_do(records, kept, _failed(kept), summary)
        for record, dialogue, opened in _opened(coming, pictures, pool, workers):
            task = _task(record)
            entry: dict[str, Any] = {"id": grounded_id(record, dialogue, task)}
            try:
                image = opened.result()
                sample = ground_dialogue(record, dialogue, image, detector, settings, task, lexicon)
            except InputError as error:
                entry |= {"status": "failed", "reason": str(error)}
                summary.failed += 1
            else:
                entry |= {"status": "empty"} if sample is None else _grounded(sample)
                summary.empty += sample is None
                summary.grounded += sample is not None
            kept.put(entry)
            if on_done is not None:
                on_done(summary)
    return summary


def read_grounded(folder: Path) -> Iterator[Sample]:
    """The samples of a run, by id.

    Raises:
        InputError: there is no run in the folder, or it is damaged.
    """
    check_run(folder)
    for entry in Kept(folder / _GROUNDED, "id", in_memory=False).by_name():
        if entry.get("status") == "grounded":
            yield Sample.from_dict(entry["sample"])


def _grounded(sample: Sample) -> dict[str, Any]:
    return {"status": "grounded", "sample": sample.to_dict()}


def _dialogues(records: Iterable[Record]) -> Iterator[tuple[Record, Dialogue]]:
    for record in records:
        for dialogue in record.dialogues:
            yield record, dialogue


def _failed(kept: Kept) -> set[str]:
    """What an earlier run failed at is not done: the picture may be mended by now."""
    failed: set[str] = set()
    for entry in kept:  # the last line of a name counts
        (failed.add if entry.get("status") == "failed" else failed.discard)(entry["id"])
    return failed


def _to_do(
    records: Iterable[Record], kept: Kept, failed: set[str], summary: Summary
) -> Iterator[tuple[Record, Dialogue]]:
    for record, dialogue in _dialogues(records):
        name = grounded_id(record, dialogue, _task(record))
        if name in kept and name not in failed:
            summary.known += 1
        else:
            yield record, dialogue


def _opened(
    wanted: Iterator[tuple[Record, Dialogue]], pictures: Path, pool: ThreadPoolExecutor, ahead: int
) -> Iterator[tuple[Record, Dialogue, Future[Image.Image]]]:
    """Dialogues in their order, with their pictures, of which a few are opened ahead."""
    waiting: deque[tuple[Record, Dialogue, Future[Image.Image]]] = deque()
    while True:
        for record, dialogue in islice(wanted, ahead + 1 - len(waiting)):
            waiting.append((record, dialogue, pool.submit(load_image, pictures / record.picture.file)))
        if not waiting:
            return
        yield waiting.popleft()


def _task(record: Record) -> str:
    """After the part of LLaVA-Instruct that the record is of: conversation_58k, detail_23k, complex_reasoning_77k."""
    return next((task for word, task in _KINDS.items() if word in record.split), "dialogue")


def _phrases(dialogue: Dialogue, lexicon: Lexicon) -> set[str]:
    answers = (turn.text for turn in dialogue.turns if turn.role == "assistant")
    return {without_determiner(chunk.phrase) for answer in answers for chunk in noun_phrases(answer, lexicon)}
