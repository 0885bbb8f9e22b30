"""Sequences of several requests that grow together, each with its own length, and any of them may leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from openferret.generation.decode import Decoding, Generated, extend
from openferret.generation.prefix import Continuation, context_length
from openferret.generation.questions import Question
from openferret.regions import Region
from openferret.scene import Scene


class AbandonedError(Exception):
    """Nobody waits any more for what is still being written."""


@dataclass(eq=False)
class Row:
    """An answer to be written.

    Attributes:
        question: what is asked.
        most: tokens of the answer.
        gone: whether nobody waits for it any more.
        watch: called with the tokens so far, after each; they are not in a batch's last step.
        ids: the tokens so far.
        cut: the answer was ended by `most`.
    """

    question: Question
    most: int
    gone: Callable[[], bool] = lambda: False
    watch: Callable[[Sequence[int]], None] | None = None
    ids: list[int] = field(default_factory=list)
    cut: bool = False


def write_rows(scene: Scene, rows: Sequence[Row], temperature: float, seed: int) -> list[Generated]:
    """Writes answers together, each as if it were alone.

    Args:
        scene: of the picture that all are about.
        rows: at least one.
        temperature: 0 takes the most probable tokens; above, only a single row is drawn as if alone.
        seed: of the draws.

    Raises:
        AbandonedError: the rest is for nobody; what was complete is lost too and has to be asked again.
    """
    growing = _Growing(scene, rows)
    longest = max(growing.most)
    how = Decoding(max_new_tokens=longest, temperature=temperature, seed=seed)
    written = extend(growing, [row.question for row in rows], how)
    return [_undo_end(one) if row.cut else one for one, row in zip(written, rows, strict=True)]


class _Growing(Continuation):
    """A continuation that ends rows which are long enough or for nobody, by making it the likeliest token."""

    def __init__(self, scene: Scene, rows: Sequence[Row]) -> None:
        model, processor = scene.loaded.model, scene.loaded.processor
        super().__init__(model, processor, scene.prefix, len(rows))
        held = context_length(model) - scene.prefix.length
        # The shared limit of the context is that of the longest row; here each has its own.
        self.most = [max(1, min(row.most, held - len(row.question.ids))) for row in rows]
        self._rows = rows
        self._places = list(range(len(rows)))
        self._asked = False
        self._stop = min(processor.stop_ids)
        for row in rows:
            row.ids.clear()
            row.cut = False

    @property
    def room(self) -> int:
        """Without end: `most` holds what there is for each row."""
        return 2**31

    def append(self, tokens: Sequence[Sequence[int]], regions: Sequence[Region] = ()) -> Tensor:
        if self._asked:
            for number, fresh in zip(self._places, tokens, strict=True):
                row = self._rows[number]
                row.ids += fresh
                if row.watch is not None:
                    row.watch(row.ids)
        self._asked = True
        if all(self._rows[number].gone() for number in self._places):
            raise AbandonedError
        logits = super().append(tokens, regions)
        for place, number in enumerate(self._places):
            row = self._rows[number]
            row.cut = len(row.ids) >= self.most[number] or row.gone()
            if row.cut:
                logits[place] = -torch.inf
                logits[place, self._stop] = 0.0
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        super().keep(rows)
        self._places = [self._places[place] for place in rows]


def _undo_end(written: Generated) -> Generated:
    """An answer without the end that was put to it."""
    return replace(written, probabilities=written.probabilities[:-1], complete=False)
