"""One function to check this package against the reference, by anyone: the reference's inputs -> logits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from openferret.convert import Sources, convert_apple
from openferret.convert.checkpoint import read_json
from openferret.errors import InputError
from openferret.model.configuration import FerretConfig
from openferret.model.modeling import FerretForConditionalGeneration, FerretOutput
from openferret.processing.geometry import RegionGeometry, region_geometry
from openferret.processing.reference import reference_points

IMAGE_PLACEHOLDER = -200
IGNORED_LABEL = -100

Masks = Sequence[Sequence[NDArray[np.uint8] | NDArray[np.bool_]]]


def reference_logits(
    folder: str | Path,
    pixel_values: Tensor,
    input_ids: Tensor,
    masks: Masks = (),
    points: Sequence[NDArray[np.float32]] | None = None,
    anchors: Sequence[NDArray[np.int64]] | None = None,
    neighbors: Sequence[NDArray[np.int64]] | None = None,
    *,
    attention_mask: Tensor | None = None,
) -> Tensor:
    """What a checkpoint answers to the reference's own inputs, in float32 on the CPU.

    The reference draws points at random and leaves the order of equal distances to rounding. With its points
    and indices handed in, the logits agree to about 1e-5; without, they are drawn and computed here.

    Args:
        folder: model folder of this package, or a merged checkpoint in the reference's layout, which is
            converted into a temporary folder first.
        pixel_values: float [B, 3, S, S], one picture a row.
        input_ids: int64 [B, L], -200 where the picture stands, at most once a row.
        masks: for each row its regions, each [W, H] and non-zero inside, as the reference keeps them.
        points: for each region in order float32 [N, 2], (x / W, y / H).
        anchors: for each block int64 [R, S], the indices of farthest point sampling.
        neighbors: for each block int64 [R, S, k], the indices of the nearest neighbours.
        attention_mask: [B, L], 0 where a row is padded on its right.

    Returns:
        float32 [B, L', V], a picture's placeholder replaced by the picture's tokens.

    Raises:
        InputError: inputs that do not fit together.
        WeightsError: a folder that cannot be opened.

    Example:
        >>> logits = reference_logits("ferret-7b", pixels, ids, masks)  # doctest: +SKIP
    """
    with torch.no_grad():
        model = open_reference(folder)
        geometry = reference_geometry(model.config, masks, points, anchors, neighbors)
        output = reference_forward(
            model,
            pixel_values,
            input_ids,
            geometry,
            [len(row) for row in masks],
            attention_mask=attention_mask,
        )
    if output.logits is None:
        raise InputError("the model gave no logits")
    return output.logits


def open_reference(folder: str | Path) -> FerretForConditionalGeneration:
    """Opens a model folder of ours, or a merged checkpoint of the reference, in float32 and for evaluation.

    Raises:
        WeightsError: a folder that cannot be opened.
    """
    place = Path(folder)
    with TemporaryDirectory() as scratch:
        if read_json(place / "config.json").get("model_type") != FerretConfig.model_type:
            place = convert_apple(Sources(place), Path(scratch) / "converted")
        model = FerretForConditionalGeneration.from_pretrained(
            place, dtype=torch.float32, local_files_only=True, use_safetensors=True
        )
    opened: FerretForConditionalGeneration = model.eval()
    return opened


def reference_geometry(
    config: FerretConfig,
    masks: Masks,
    points: Sequence[NDArray[np.float32]] | None = None,
    anchors: Sequence[NDArray[np.int64]] | None = None,
    neighbors: Sequence[NDArray[np.int64]] | None = None,
) -> RegionGeometry | None:
    """The geometry of all regions: what is given, and the rest drawn and computed; None without regions.

    Args:
        config: of the model.
        masks: see `reference_logits`.
        points: see `reference_logits`.
        anchors: see `reference_logits`; given together with `neighbors`.
        neighbors: see `reference_logits`.
    """
    regions = [np.asarray(mask, np.bool_) for row in masks for mask in row]
    if not regions:
        return None
    drawn = points or [reference_points(mask.T, config.sampler_points) for mask in regions]
    if len(drawn) != len(regions):
        raise InputError(f"there are {len(regions)} masks, but points for {len(drawn)}")
    stacked = np.stack(drawn).astype(np.float32)
    if (anchors is None) != (neighbors is None):
        raise InputError("anchors and neighbors must be given together, or neither of them")
    if anchors is None or neighbors is None:
        return region_geometry(stacked, config.geometry)
    return RegionGeometry(stacked, tuple(anchors), tuple(neighbors))


def reference_forward(
    model: FerretForConditionalGeneration,
    pixel_values: Tensor,
    input_ids: Tensor,
    geometry: RegionGeometry | None = None,
    regions: Sequence[int] = (),
    *,
    attention_mask: Tensor | None = None,
    labels: Tensor | None = None,
) -> FerretOutput:
    """The reference's forward pass, with gradients where they are wanted.

    Rows that a missing picture leaves shorter are padded on the right with zero vectors, as there.

    Args:
        model: of the paper's kind.
        pixel_values: see `reference_logits`.
        input_ids: see `reference_logits`.
        geometry: of all regions, in the order of the rows.
        regions: how many of them each row has.
        attention_mask: see `reference_logits`.
        labels: int64 [B, L], -100 where nothing is learned; a picture's tokens get -100.
    """
    config = model.config
    attended = torch.ones_like(input_ids) if attention_mask is None else attention_mask.long()
    goals = torch.full_like(input_ids, IGNORED_LABEL) if labels is None else labels
    if len(regions) > len(input_ids):
        raise InputError(f"there are regions for {len(regions)} rows, but {len(input_ids)} rows of input_ids")
    counts = torch.tensor([*regions, *[0] * (len(input_ids) - len(regions))])
    shown = (input_ids == IMAGE_PLACEHOLDER).any(1)
    encoded = model.model.encode_pictures(pixel_values[shown]) if bool(shown.any()) else None
    if len(without := (counts.bool() & ~shown.cpu()).nonzero()):
        raise InputError(f"row {int(without[0])} shows no picture, but has regions")
    vectors = owners = None
    if geometry is not None and encoded is not None:
        owners = (shown.long().cumsum(0) - 1).repeat_interleave(counts.to(shown.device))
        vectors = model.model.encode_regions(
            encoded,
            torch.from_numpy(geometry.points),
            [torch.from_numpy(one) for one in geometry.anchors],
            [torch.from_numpy(one) for one in geometry.neighbors],
            owners,
        )
    ids, kept, wanted = (
        [_spread(row, mark, fill, config.picture_tokens) for row, mark in zip(rows, input_ids, strict=True)]
        for rows, fill in (
            (input_ids, config.image_token_id),
            (attended, 1),
            (goals, IGNORED_LABEL),
        )
    )
    present = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
    embedded = model.model.embed(pad_sequence(ids, batch_first=True), encoded, vectors, owners)
    output: FerretOutput = model(
        inputs_embeds=embedded * present[..., None],
        attention_mask=pad_sequence(kept, batch_first=True),
        labels=None
        if labels is None
        else pad_sequence(wanted, batch_first=True, padding_value=IGNORED_LABEL),
    )
    return output


def _spread(row: Tensor, ids: Tensor, fill: int, count: int) -> Tensor:
    """A row with `count` times `fill` in place of the picture's placeholder in `ids`."""
    found = (ids == IMAGE_PLACEHOLDER).nonzero()
    if len(found) > 1:
        raise InputError(f"a row shows {len(found)} pictures, but the reference takes one")
    if not len(found):
        return row
    place = int(found)
    return torch.cat([row[:place], row.new_full((count,), fill), row[place + 1 :]])
