"""Dialogues about pictures, written by a language model that is told what is on them, refined by a second one.

The way of GRIT (arXiv 2310.07704, section 4.2): context, few-shot prompts, a dialogue, a refined dialogue; and then a
check that the paper does not tell of (`openferret.data.assisted.verification`). Any OpenAI-compatible server will do. A
run that is killed goes on where it stopped: what was asked is in the cache, what is done in `dialogues.jsonl`.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from openferret.data.assisted.context import Context, write_context
from openferret.data.assisted.prompts import Prompts
from openferret.data.assisted.verification import Rejected, Verified, verify_dialogue
from openferret.data.endpoints.calling import Caller
from openferret.data.endpoints.completions import Completion, CompletionError, Messages, estimate_tokens
from openferret.data.endpoints.spending import BudgetSpent, Prices
from openferret.data.files.kept import Kept
from openferret.data.files.run_folder import check_run, run_folder
from openferret.data.records import Record
from openferret.data.schema import Sample
from openferret.data.templates.drafts import Draft, chance_of
from openferret.data.words.lexicon import Lexicon, load_lexicon
from openferret.errors import InputError

MOST_TOKENS = 1200
_DIALOGUES = "dialogues.jsonl"
TASKS: Mapping[str, str] = {"conversation": "dialogue", "reasoning": "reasoning", "detail": "detail"}
_TYPICAL_TOKENS = 320  # of a dialogue; assumed where nothing has been asked yet
_FAILURES = 20  # in a row: the server is not coming back


@dataclass(frozen=True, eq=False)
class Assistant:
    """Who writes, who refines, and what they are told.

    Args:
        writer: asks the first model.
        refiner: asks the second; None to leave dialogues as they are.
        prompts: the words.
        seed: decides the kind of each dialogue.
        lexicon: what words may mean, for the check.
    """

    writer: Caller
    refiner: Caller | None
    prompts: Prompts
    seed: int = 0
    lexicon: Lexicon = field(default_factory=load_lexicon)

    @property
    def generator(self) -> str:
        """As the samples' provenance tells it."""
        refined = f", refined by {self.refiner.server.model}" if self.refiner else ""
        return f"{self.writer.server.model}{refined}; prompts {self.prompts.digest}"

    def kind_of(self, record: Record) -> str:
        """Which kind of dialogue a record gets."""
        name = f"{record.picture.source}:{record.picture.id}:assisted"
        return chance_of(self.seed, name).choice(sorted(self.prompts.kinds))


@dataclass
class Summary:
    """How a run went.

    Attributes:
        accepted: dialogues that hold.
        rejected: others, by kind of reason.
        repaired: what was repaired in accepted ones.
        failed: records without a reply; another run asks again.
        skipped: records that tell too little.
        known: records that an earlier run had done.
        ended: why the run ended early, or "".
    """

    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    skipped: int = 0
    known: int = 0
    ended: str = ""


@dataclass(frozen=True)
class Estimate:
    """What a run would ask and cost at the prices given, with dialogues of typical length.

    Args:
        dialogues: to be written.
        requests: to be made, without any second try.
        prompt_tokens: at four characters a token.
        completion_tokens: assumed.
        cost: in the currency of the prices.
    """

    dialogues: int
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost: float


def estimate_run(
    records: Iterable[Record],
    assistant: Assistant,
    folder: Path | None = None,
    typical: int = _TYPICAL_TOKENS,
) -> Estimate:
    """A dry run: nothing is asked.

    Args:
        records: as for `write_dialogues`.
        assistant: its servers are not contacted.
        folder: of the run, if some of it may be done already; what is done is not counted.
        typical: tokens of a dialogue.

    Raises:
        InputError: the folder's `dialogues.jsonl` is damaged.
    """
    done = Kept(folder / _DIALOGUES, "id", in_memory=False) if folder is not None else ()
    dialogues = 0
    told: list[tuple[Prices, int]] = []
    for record in records:
        context = write_context(record, assistant.lexicon)
        if context is None or _draft(record, assistant).id in done:
            continue
        kind = assistant.kind_of(record)
        dialogues += 1
        told.append((assistant.writer.prices, _tokens(assistant.prompts.to_write(kind, context.text))))
        if assistant.refiner is not None:
            refined = _tokens(assistant.prompts.to_refine(kind, context.text, "")) + typical
            told.append((assistant.refiner.prices, refined))
    asked = len(told)
    cost = sum(prices.cost(tokens, typical) for prices, tokens in told)
    return Estimate(dialogues, asked, sum(tokens for _, tokens in told), asked * typical, cost)


def write_dialogues(
    records: Iterable[Record],
    folder: Path,
    assistant: Assistant,
    workers: int = 8,
    on_done: Callable[[Summary], None] | None = None,
) -> Summary:
    """Writes a dialogue for each record that tells enough, and keeps each as soon as it is done.

    Args:
        records: read as they are needed.
        folder: gets `dialogues.jsonl` and `run.json`; a folder of an earlier run with the same models, prompts
            and seed is gone on with.
        assistant: who writes.
        workers: dialogues in the making at a time.
        on_done: is told after each record, from the calling thread.

    Raises:
        InputError: a folder of a run with other settings, or one that cannot be written.
    """
    if workers < 1:
        raise InputError(f"workers must be at least 1, not {workers}")
    with run_folder(folder, {"generator": assistant.generator, "seed": assistant.seed}):
        return _write_all(records, folder, assistant, workers, on_done)


def read_dialogues(folder: Path) -> Iterator[Sample]:
    """The samples of a run that were accepted, by id: the same order however many workers there were.

    Raises:
        InputError: there is no run in the folder, or it is damaged.
    """
    check_run(folder)
    for entry in Kept(folder / _DIALOGUES, "id", in_memory=False).by_name():
        if entry.get("status") == "accepted":
            yield Sample.from_dict(entry["sample"])


def _write_all(
    records: Iterable[Record],
    folder: Path,
    assistant: Assistant,
    workers: int,
    on_done: Callable[[Summary], None] | None,
) -> Summary:
    kept = Kept(folder / _DIALOGUES, "id", in_memory=False)
    summary, in_a_row = Summary(), 0
    pool = ThreadPoolExecutor(workers, thread_name_prefix="dialogue")
    running: set[Future[dict[str, Any]]] = set()
    coming = _to_do(records, assistant, kept, summary)
    try:
        while True:
            if not summary.ended:
                for record, context in islice(coming, max(0, 2 * workers - len(running))):
                    running.add(pool.submit(_write_one, record, context, assistant))
            if not running:
                return summary
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                in_a_row = _settle(future, kept, summary, in_a_row)
                if on_done is not None:
                    on_done(summary)
            if summary.ended:
                for future in running:
                    future.cancel()
    finally:
        _stop_event(assistant).set()
        pool.shutdown(wait=True, cancel_futures=True)
        _stop_event(assistant).clear()


def _to_do(
    records: Iterable[Record], assistant: Assistant, kept: Kept, summary: Summary
) -> Iterator[tuple[Record, Context]]:
    for record in records:
        if _draft(record, assistant).id in kept:
            summary.known += 1
            continue
        context = write_context(record, assistant.lexicon)
        if context is None:
            summary.skipped += 1
            continue
        yield record, context


def _write_one(record: Record, context: Context, assistant: Assistant) -> dict[str, Any]:
    """A line for `dialogues.jsonl`: the sample, or why there is none."""
    kind = assistant.kind_of(record)
    said = assistant.writer.ask(
        assistant.prompts.to_write(kind, context.text), temperature=0.7, max_tokens=MOST_TOKENS
    )
    refined = None
    if assistant.refiner is not None:
        refined = assistant.refiner.ask(
            assistant.prompts.to_refine(kind, context.text, said.text),
            temperature=0.3,
            max_tokens=MOST_TOKENS,
        )
    draft = _draft(record, assistant)
    try:
        draft, verified = _verified(refined or said, record, context, assistant)
    except Rejected as reason:
        try:
            if refined is None:
                raise
            draft, verified = _verified(said, record, context, assistant)
            verified = Verified(
                verified.turns, (*verified.repairs, "the refined dialogue was rejected, the first kept")
            )
        except Rejected:
            text = (refined or said).text
            return {
                "id": draft.id,
                "status": "rejected",
                "kind": reason.kind,
                "reason": str(reason),
                "text": text,
            }
    sample = draft.conversation(verified.turns, kind, assistant.generator)
    return {
        "id": draft.id,
        "status": "accepted",
        "sample": sample.to_dict(),
        "repairs": list(verified.repairs),
    }


def _verified(
    said: Completion, record: Record, context: Context, assistant: Assistant
) -> tuple[Draft, Verified]:
    draft = _draft(record, assistant)
    return draft, verify_dialogue(said.text, context, draft, assistant.lexicon, said.finished)


def _draft(record: Record, assistant: Assistant) -> Draft:
    kind = assistant.kind_of(record)
    return Draft(record, TASKS.get(kind, kind), "assisted", assistant.seed)


def _settle(future: Future[dict[str, Any]], kept: Kept, summary: Summary, failures: int) -> int:
    """Books one finished record; returns how many failed in a row."""
    if future.cancelled():
        return failures
    try:
        entry = future.result()
    except BudgetSpent as reason:
        summary.ended = summary.ended or str(reason)
        return failures
    except CompletionError as reason:
        summary.failed += 1
        if failures + 1 >= _FAILURES:
            summary.ended = f"{failures + 1} records in a row had no reply; the last: {reason}"
        return failures + 1
    kept.put(entry)
    if entry["status"] == "accepted":
        summary.accepted += 1
        summary.repaired.update(entry["repairs"])
    else:
        summary.rejected[entry["kind"]] += 1
    return 0


def _stop_event(assistant: Assistant) -> threading.Event:
    """Ends all waiting of the writer; the refiner shares it where they were made together."""
    if assistant.refiner is not None:
        assistant.refiner.stop = assistant.writer.stop
    return assistant.writer.stop


def _tokens(messages: Messages | Sequence[Mapping[str, str]]) -> int:
    return sum(estimate_tokens(message["content"]) for message in messages)
