"""Analogous things that a language model has named, in a file: what a build reads is the same each time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from filelock import FileLock, Timeout

from openferret.data.endpoints.calling import Caller
from openferret.data.endpoints.completions import CompletionError
from openferret.data.endpoints.spending import BudgetSpent
from openferret.data.files.kept import Kept
from openferret.data.negatives.endpoint_analogies import ask_for_analogies, read_analogies
from openferret.data.negatives.mining import Analogies
from openferret.data.records import Record
from openferret.data.templates.writers import WriterSettings, write_record
from openferret.errors import InputError
from openferret.phrases import without_determiner

_DENYING = frozenset({"presence", "phrase", "all_instances"})  # tasks that ask for what is not there
_FAILURES = 20  # in a row: the server is not coming back


@dataclass(frozen=True, eq=False)
class FileAnalogies:
    """From a file that `openferret data analogies` has made.

    Args:
        known: by phrase without its determiner.
        otherwise: answers for phrases that are not there.
    """

    known: Mapping[str, Sequence[str]]
    otherwise: Analogies

    def of(self, phrase: str) -> Sequence[str]:
        """What was named for the phrase, or what the other says."""
        return self.known.get(without_determiner(phrase)) or self.otherwise.of(phrase)


def load_analogies(path: Path, otherwise: Analogies) -> FileAnalogies:
    """Reads a file of analogies: JSON lines with `phrase` and `like`.

    Raises:
        InputError: it is missing, or a line is no such object; the line is named.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist: make it with `openferret data analogies`")
    known = {}
    for entry in Kept(path, "phrase", in_memory=False):
        like = entry.get("like")
        if not isinstance(like, list) or not all(isinstance(one, str) for one in like):
            raise InputError(f"{path}: `like` of {entry['phrase']!r} must be a list of phrases")
        # A file may be edited: what stands in it is read as strictly as a reply.
        known[entry["phrase"]] = read_analogies("\n".join(like))
    return FileAnalogies(known, otherwise)


@dataclass(frozen=True, eq=False)
class _Listening:
    """Notes what is asked for."""

    otherwise: Analogies
    heard: dict[str, None]

    def of(self, phrase: str) -> Sequence[str]:
        self.heard[without_determiner(phrase)] = None
        return self.otherwise.of(phrase)


def wanted_phrases(records: Iterable[Record], settings: WriterSettings) -> Iterator[str]:
    """The phrases that a build of these records asks analogies of, each once, without determiners.

    Args:
        records: as the build reads them.
        settings: of the build: its seed decides which phrases are asked.
    """
    listening = _Listening(settings.analogies, {})
    asked = WriterSettings(**{**vars(settings), "analogies": listening})
    told: set[str] = set()
    for record in records:
        for _ in write_record(record, asked, _DENYING):
            pass
        yield from (phrase for phrase in listening.heard if phrase not in told)
        told.update(listening.heard)
        listening.heard.clear()


@dataclass
class Summary:
    """How a run went.

    Attributes:
        named: phrases that have analogies now.
        failed: phrases without a usable reply; the table answers for them, and another run asks again.
        known: phrases that an earlier run had done.
        ended: why the run ended early, or "".
    """

    named: int = 0
    failed: int = 0
    known: int = 0
    ended: str = field(default="")


def ask_all(
    phrases: Iterable[str],
    path: Path,
    caller: Caller,
    workers: int = 8,
    on_done: Callable[[Summary], None] | None = None,
) -> Summary:
    """Asks for analogies of every phrase, and keeps each as soon as it is said.

    Args:
        phrases: read as they are needed.
        path: of the file; what is in it is not asked again.
        caller: asks the model.
        workers: requests at a time.
        on_done: is told after each phrase, from the calling thread.

    Raises:
        InputError: the file is another, cannot be written, or another run is at work on it.
    """
    with _locked(path):
        return _ask_all(phrases, path, caller, workers, on_done)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Against a second run, which would ask, and pay, for the same phrases."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock"), timeout=0):
            yield
    except Timeout:
        raise InputError(f"another run is at work on {path}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None


def _ask_all(
    phrases: Iterable[str],
    path: Path,
    caller: Caller,
    workers: int,
    on_done: Callable[[Summary], None] | None,
) -> Summary:
    kept, summary, in_a_row = Kept(path, "phrase", in_memory=False), Summary(), 0
    running: dict[Future[list[str]], str] = {}
    pool = ThreadPoolExecutor(workers, thread_name_prefix="analogies")
    coming = _new(phrases, kept, summary)
    try:
        while True:
            for phrase in islice(coming, 0 if summary.ended else max(0, 2 * workers - len(running))):
                running[pool.submit(ask_for_analogies, caller, phrase)] = phrase
            if not running:
                return summary
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                phrase = running.pop(future)
                try:
                    like = future.result()
                except BudgetSpent as reason:
                    summary.ended = str(reason)
                    continue
                except CompletionError as reason:
                    like, in_a_row = [], in_a_row + 1
                    if in_a_row >= _FAILURES:
                        summary.ended = f"{in_a_row} phrases in a row had no reply; the last: {reason}"
                else:
                    in_a_row = 0
                if like:
                    kept.put({"phrase": phrase, "like": like})
                summary.named += bool(like)
                summary.failed += not like
                if on_done is not None:
                    on_done(summary)
    finally:
        caller.stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
        caller.stop.clear()


def _new(phrases: Iterable[str], kept: Kept, summary: Summary) -> Iterator[str]:
    for phrase in phrases:
        if phrase in kept:
            summary.known += 1
        else:
            yield phrase
