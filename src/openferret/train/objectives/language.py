"""Next-token cross entropy of the answers, with several dialogues sharing a picture's prefix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from openferret.model.modeling import FerretForConditionalGeneration
from openferret.model.pictures import EncodedPictures
from openferret.train.batches.batch import IGNORED, PADDING, PREFIX, Batch, Row
from openferret.train.objectives.objective import MONITOR

NAME = "language"


class LanguageObjective:
    """The loss `language`: summed over the supervised tokens, and counted in them.

    Logits are computed for supervised places only: the head is a third of a small model's work, and most places
    are the picture's and the questions'.
    """

    name = NAME

    def prepare(self, rows: Sequence[Row]) -> Mapping[str, Tensor]:
        """Nothing: the batch has it all."""
        return {}

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """Supervised tokens: all, and those of each task."""
        numbers = batch.segments[batch.labels != IGNORED].tolist()
        tasks = Counter(_task_names(batch, numbers))
        return {NAME: float(len(numbers)), **{name: float(count) for name, count in tasks.items()}}

    def losses(
        self, model: FerretForConditionalGeneration, batch: Batch, seen: EncodedPictures
    ) -> Mapping[str, Tensor]:
        """See `Objective.losses`; beside `language` one of each task, to be shown."""
        losses = token_losses(model, batch, seen)
        names = _task_names(batch, batch.segments[batch.labels != IGNORED].tolist())
        places = {name: place for place, name in enumerate(dict.fromkeys(names))}
        which = torch.tensor([places[name] for name in names], dtype=torch.long, device=losses.device)
        shown = losses.new_zeros(len(places)).index_add(0, which, losses.detach()[: len(names)])
        return {NAME: losses.sum(), **dict(zip(places, shown, strict=True))}


def _task_names(batch: Batch, numbers: Sequence[int]) -> list[str]:
    """For each supervised token the loss of its task; `numbers`: of their dialogues, in row-major order."""
    rows = (batch.labels != IGNORED).nonzero()[:, 0].tolist()
    return [MONITOR + batch.tasks[row][number - 1] for row, number in zip(rows, numbers, strict=True)]


def token_losses(model: FerretForConditionalGeneration, batch: Batch, seen: EncodedPictures) -> Tensor:
    """Cross entropy of each supervised token, float32 [n], in row-major order of `batch.labels`."""
    embeddings = embed_batch(model, batch, seen)
    hidden = model.model.language_model(
        inputs_embeds=embeddings,
        attention_mask=additive_mask(batch.segments, embeddings.dtype),
        position_ids=batch.positions,
        use_cache=False,
    ).last_hidden_state
    learned = batch.labels != IGNORED
    logits = model.lm_head(hidden[learned])
    if (
        model.config.use_locator
    ):  # which writes the locations, the last of the vocabulary: they are never chosen
        logits = logits[:, : model.config.first_location_token_id]
    losses = functional.cross_entropy(logits.float(), batch.labels[learned], reduction="none")
    # A batch without a supervised token still has a gradient of 0 for everything.
    return losses if len(losses) else losses + 0 * hidden.sum()


def embed_batch(model: FerretForConditionalGeneration, batch: Batch, seen: EncodedPictures) -> Tensor:
    """Words, pictures and regions of a batch: float [B, L, H]; blanks touch every weight and change nothing."""
    # Coordinates are not for the precision of autocast.
    with torch.autocast(batch.ids.device.type, enabled=False):
        regions = model.model.encode_regions(
            seen, batch.points, batch.anchors, batch.neighbors, batch.region_picture
        )
    shown = len(seen) - batch.blank_pictures
    real = len(regions) - batch.blank_regions
    unused = regions[real:].sum() + seen.tokens[shown:].sum()
    if seen.objects is not None:
        unused = unused + seen.objects[shown:].sum()
    pictures = None
    if shown:
        objects = None if seen.objects is None else seen.objects[:shown]
        pictures = EncodedPictures(seen.tokens[:shown], tuple(one[:shown] for one in seen.maps), objects)
    embeddings = model.model.embed(
        batch.ids, pictures, regions[:real] if real else None, batch.region_picture[:real] if real else None
    )
    return embeddings + (0 * unused).to(embeddings.dtype)


def additive_mask(segments: Tensor, dtype: torch.dtype) -> Tensor:
    """Who sees whom, float [B, 1, L, L], 0 or the lowest number: the prefix and one's own dialogue, nothing later.

    Args:
        segments: int64 [B, L] (`Batch.segments`).
        dtype: of the embeddings that it is used with.
    """
    length = segments.shape[1]
    own = segments[:, :, None] == segments[:, None, :]
    prefix = segments[:, None, :] == PREFIX
    places = torch.arange(length, device=segments.device)
    causal = places[:, None] >= places
    # Padding sees itself, or a softmax over nothing would be NaN.
    itself = places[:, None] == places
    seen = ((own | prefix) & causal & (segments != PADDING)[:, None, :]) | itself
    lowest = torch.finfo(dtype).min
    return torch.zeros(seen.shape, dtype=dtype, device=segments.device).masked_fill(~seen, lowest)[:, None]
