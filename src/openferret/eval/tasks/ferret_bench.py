"""Ferret-Bench: referring description, referring reasoning, grounding in conversation; 40 questions each.

With a judge and the published `rule.json` the figure is formed as the paper's (mean rating of the model over
that of the reference, times 100), but asked in both orders and by whatever judge is there: the paper's,
gpt-4-0314, has been retired, so no figure of today can be compared with its table.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from openferret.eval.files import read_json
from openferret.eval.judge import PROMPT, TEMPLATE, Judge, read_prompts
from openferret.eval.questions import Question, Replies
from openferret.eval.scores import Benchmark, Score
from openferret.eval.tasks.judged import read_open, score_open

VERSION = 1


def load(
    images: Path,
    questions: Sequence[Path],
    answers: Sequence[Path],
    context: Sequence[Path] = (),
    rules: Path | None = None,
    judge: Judge | None = None,
) -> Benchmark:
    """Reads the three files of each category, and the judge's prompts."""
    items = {one.question.id: one for one in read_open(questions, answers, context)}
    prompts = dict(read_prompts(read_json(rules), rules)) if rules else {}

    def score(asked: Sequence[Question], replies: Replies) -> Score:
        return score_open(
            [items[one.id] for one in asked],
            replies,
            judge,
            prompts,
            grounding=frozenset({"ground_conv"}),
            judged_rule="official" if prompts else "strict",
        )

    notes = ("Without a judge these figures say little of how good an answer is.",) if judge is None else ()
    identity = judge.identity() if judge else {}
    return Benchmark(
        "ferret-bench",
        VERSION,
        {"question": "as the file has it", "judge": TEMPLATE, "own": PROMPT, **prompts, **identity},
        tuple(one.question for one in items.values()),
        {one.question.picture: images / one.question.picture for one in items.values()},
        score,
        notes,
    )
