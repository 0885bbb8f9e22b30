"""A language model as judge of two answers, asked in both orders, its words kept.

What it fails to rate is told and never averaged in. Any OpenAI-compatible server will do. It sees text
only: what is on the picture is told in words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openferret.errors import InputError
from openferret.eval.files import read_json_lines
from openferret.eval.questions import digest
from openferret.eval.transport import ChatServer, TransportError

SYSTEM = "You are a helpful and precise assistant for checking the quality of the answer."
TEMPLATE = (
    "[Context]\n{context}\n\n[Question]\n{question}\n\n[Assistant 1]\n{first}\n\n[End of Assistant 1]\n\n"
    "[Assistant 2]\n{second}\n\n[End of Assistant 2]\n\n[System]\n{prompt}\n\n"
)
PROMPT = (
    "Rate the two answers above for helpfulness, relevance, accuracy and level of detail, each on a scale of "
    "1 to 10. First write one line with only two numbers, for Assistant 1 and 2 in this order, separated by "
    "a space. Then explain, without letting the order of the answers influence you."
)
_SCORES = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)(?:/10)?[\s,;]+([0-9]+(?:\.[0-9]+)?)(?:/10)?\s*")


@dataclass(frozen=True)
class Verdict:
    """Ratings 1..10 of the reference and of the model, means over both orders; or why there are none."""

    reference: float = 0.0
    model: float = 0.0
    failure: str | None = None


@dataclass
class Judge:
    """A judge behind a server.

    Args:
        server: with its address, model and key.
        cache: file of JSON lines that keeps what was said; the same request is made once.
    """

    server: ChatServer
    cache: Path | None = None
    _known: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.cache is not None and self.cache.is_file():
            lines = self.cache.read_bytes()
            whole = lines[: lines.rfind(b"\n") + 1]
            if whole != lines:  # killed while writing: the half line is asked for again
                self.cache.write_bytes(whole)
            for _, record in read_json_lines(self.cache):
                self._known[str(record.get("request"))] = str(record.get("said"))

    def identity(self) -> dict[str, str]:
        """What ratings depend on."""
        return {"model": self.server.model, "words": digest([SYSTEM, TEMPLATE])[:16], "temperature": "0.2"}

    def rate(self, context: str, question: str, reference: str, answer: str, prompt: str = PROMPT) -> Verdict:
        """Asks in both orders; a failure in either is a failure."""
        totals = [0.0, 0.0]
        for swapped in (False, True):
            first, second = (answer, reference) if swapped else (reference, answer)
            words = TEMPLATE.format(
                context=context, question=question, first=first, second=second, prompt=prompt
            )
            try:
                ratings = read_ratings(self._ask(words))
            except (TransportError, InputError) as error:
                return Verdict(failure=str(error))
            for index, rating in enumerate(reversed(ratings) if swapped else ratings):
                totals[index] += rating / 2
        return Verdict(totals[0], totals[1])

    def _ask(self, words: str) -> str:
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": words}]
        key = digest([self.server.model, messages])
        if key not in self._known:
            said = self.server.chat(messages, temperature=0.2, max_tokens=1024)
            read_ratings(said)  # what is no rating is not kept: it is asked for again next time
            self._known[key] = said
            if self.cache is not None:
                self.cache.parent.mkdir(parents=True, exist_ok=True)
                with self.cache.open("a", encoding="utf-8") as stream:
                    print(json.dumps({"request": key, "said": said}), file=stream, flush=True)
        return self._known[key]


def read_ratings(said: str) -> Sequence[float]:
    r"""The two numbers of the first line with text, each 1..10.

    Raises:
        InputError: the line holds anything else: a guess would be averaged in.

    >>> read_ratings("8, 7.5\nBoth are good.")
    [8.0, 7.5]
    """
    line = next((line for line in said[:20_000].splitlines() if line.strip()), "")[:200]
    match = _SCORES.fullmatch(line)
    ratings = [float(number) for number in match.groups()] if match else []
    if not ratings or not all(1 <= one <= 10 for one in ratings):
        raise InputError(f"the judge's first line is not two numbers from 1 to 10: {line[:60]!r}")
    return ratings


def read_prompts(content: object, place: Path) -> Mapping[str, str]:
    """Prompts by category from Ferret-Bench's `rule.json`; InputError if it is something else."""
    try:
        return {str(name): str(rule["prompt"]) for name, rule in content.items()}  # type: ignore[attr-defined]
    except (AttributeError, KeyError, TypeError):
        raise InputError(
            f'{place} is not a rule file: {{"category": {{"prompt": ...}}}} is expected'
        ) from None
