"""A model and its objectives as one module: what is wrapped, sharded and called by the loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from openferret.model.modeling import FerretForConditionalGeneration
from openferret.model.pictures import EncodedPictures
from openferret.train.batches.batch import Batch
from openferret.train.objectives.objective import MONITOR, Objective

PREFIX = "model."  # that the module puts before the model's own names


class TrainingModule(nn.Module):
    """A batch -> losses; everything happens in `forward`, where wrappers of data parallelism hook in.

    Args:
        model: what is trained.
        objectives: that give the losses.
        weights: of the losses by name; 1 for those that are not named.
        half: whether to compute in bfloat16.
    """

    def __init__(
        self,
        model: FerretForConditionalGeneration,
        objectives: Sequence[Objective],
        weights: Mapping[str, float],
        half: bool,
    ) -> None:
        super().__init__()
        self.model = model
        self._objectives = tuple(objectives)
        self._weights = dict(weights)
        self._half = half
        self._tower_rests = not any(one.requires_grad for one in model.model.vision_tower.parameters())

    def train(self, mode: bool = True) -> TrainingModule:
        """As ever, but what rests is only read: it drops nothing."""
        super().train(mode)
        for part in self.model.model.children():
            if not any(one.requires_grad for one in part.parameters()):
                part.eval()
        return self

    def counts(self, batch: Batch) -> dict[str, float]:
        """What each loss of a batch is divided by."""
        return {name: count for one in self._objectives for name, count in one.counts(batch).items()}

    def weight(self, name: str) -> float:
        """Of a loss in what is minimised."""
        return 0.0 if name.startswith(MONITOR) else self._weights.get(name, 1.0)

    def forward(self, batch: Batch, divisors: Mapping[str, float]) -> tuple[Tensor, dict[str, Tensor]]:
        """The share of a batch in what its step minimises, float [], and the sum of each loss, detached.

        Args:
            batch: on the model's device.
            divisors: for each loss, its count in the whole step.
        """
        seen = self._encode(batch)
        with torch.autocast(batch.ids.device.type, torch.bfloat16, enabled=self._half):
            sums = {
                name: value
                for one in self._objectives
                for name, value in one.losses(self.model, batch, seen).items()
            }
        total = torch.zeros((), device=batch.ids.device)
        for name, value in sums.items():
            weight = self.weight(name)
            if weight:
                total = total + weight / max(divisors.get(name, 0.0), 1.0) * value.float()
        return total, {name: value.detach().float() for name, value in sums.items()}

    def _encode(self, batch: Batch) -> EncodedPictures:
        body = self.model.model
        maps = batch.features
        if maps is None:
            if batch.pixels is None:
                raise ValueError("a batch has either pixels or features")
            learning = torch.is_grad_enabled() and not self._tower_rests
            half = torch.autocast(batch.ids.device.type, torch.bfloat16, enabled=self._half)
            with torch.set_grad_enabled(learning), half:
                maps = body.picture_maps(batch.pixels)
        # Boxes and coordinates are made after the tower: not in the precision of autocast.
        return body.encode_maps([one.to(body.projector.weight.dtype) for one in maps])
