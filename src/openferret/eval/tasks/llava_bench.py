"""LLaVA-Bench (COCO): 90 questions of conversation, detail and reasoning, with GPT-4's answers.

The prompts of the published judge are not part of its files: with a judge, ours are used, and the figures
stand under `strict`.
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
    """Reads questions, answers and, if there is one, the context."""
    items = {one.question.id: one for one in read_open(questions, answers, context)}
    prompts = dict(read_prompts(read_json(rules), rules)) if rules else {}
    identity = judge.identity() if judge else {}

    def score(asked: Sequence[Question], replies: Replies) -> Score:
        return score_open([items[one.id] for one in asked], replies, judge, prompts)

    return Benchmark(
        "llava-bench",
        VERSION,
        {"question": "as the file has it", "judge": TEMPLATE, "own": PROMPT, **prompts, **identity},
        tuple(one.question for one in items.values()),
        {one.question.picture: images / one.question.picture for one in items.values()},
        score,
    )
