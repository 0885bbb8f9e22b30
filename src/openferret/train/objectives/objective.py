"""What is learned: an objective turns a model and a batch into named losses, and several may stand side by side.

A loss is a *sum*, with a count beside it. The loop divides by the count of the whole step, over all processes and
accumulated passes, so that a run's losses do not depend on how a batch was cut up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor

from openferret.model.modeling import FerretForConditionalGeneration
from openferret.model.pictures import EncodedPictures
from openferret.train.batches.batch import Batch, Row

MONITOR = "task:"  # begins the names of losses that are shown by task and not minimised


class Objective(Protocol):
    """One or more losses.

    Attributes:
        name: under which its targets stand in `Batch.targets`.
    """

    name: str

    def prepare(self, rows: Sequence[Row]) -> Mapping[str, Tensor]:
        """Rows -> tensors for `Batch.targets[name]`; runs in a loader's process, before anything is on a device.

        Must be a function of the rows alone: random choices are seeded with the samples' ids.
        """

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """For each loss, what its sum is divided by, as far as this batch goes; 0 if the batch has none of it.

        Must not need the model: the loop adds counts up over processes before it runs any.
        """

    def losses(
        self, model: FerretForConditionalGeneration, batch: Batch, seen: EncodedPictures
    ) -> Mapping[str, Tensor]:
        """For each loss its sum over the batch, float [] with a gradient.

        Must touch the same parameters for every batch (a loss without a count is `0 * something`): processes of a
        distributed run wait for each other's gradients.

        Args:
            model: in training mode; under autocast if the recipe says bf16.
            batch: on the model's device.
            seen: the batch's pictures, encoded; shared by all objectives.
        """
