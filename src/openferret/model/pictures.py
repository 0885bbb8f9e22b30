"""A picture as the language model sees it: grid tokens, object tokens, and the maps regions are read from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from openferret.errors import InputError
from openferret.processing.geometry import SamplerGeometry, region_geometry

_PATTERN_SEED = 0  # part of what a model was trained with


@dataclass(frozen=True)
class EncodedPictures:
    """B pictures, encoded once.

    Attributes:
        tokens: float [B, T, H], grid tokens in row-major order.
        maps: float [B, C_l, h_l, w_l] for each level that regions are read from.
        objects: float [B, K, H], object tokens; None for models without.
        object_boxes: float32 [B, K, 4], their boxes (x1, y1, x2, y2) in 0..1.
        object_scores: float32 [B, K], probability that each is an object.
        object_distinct: bool [B, K], False for a box that overlaps a better one and only fills a place.
        nouns: float [B, N], how likely each of the namer's nouns is somewhere on the picture, 0..1; None for models
            without a namer or object tokens.
    """

    tokens: Tensor
    maps: tuple[Tensor, ...]
    objects: Tensor | None = None
    object_boxes: Tensor | None = None
    object_scores: Tensor | None = None
    object_distinct: Tensor | None = None
    nouns: Tensor | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def at(self, chosen: Tensor) -> EncodedPictures:
        """Some of the pictures, in any order and as often as they are named: int64 [n] into B."""

        def some(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[chosen]

        return EncodedPictures(
            self.tokens[chosen],
            tuple(one[chosen] for one in self.maps),
            *map(
                some, (self.objects, self.object_boxes, self.object_scores, self.object_distinct, self.nouns)
            ),
        )


class BoxPattern(nn.Module):
    """One fixed set of sampled points, scaled into any box: proposals are read without NumPy.

    Args:
        sizes: the sampler's sizes.
    """

    points: Tensor

    def __init__(self, sizes: SamplerGeometry) -> None:
        super().__init__()
        self.sizes = sizes
        for name, values in self.buffers_for(sizes).items():
            self.register_buffer(name, values, persistent=False)

    @staticmethod
    def buffers_for(sizes: SamplerGeometry) -> dict[str, Tensor]:
        """Points [N, 2] in the unit square, and for block i `anchors_i` [S] and `neighbors_i` [S, k]."""
        drawn = np.random.default_rng(_PATTERN_SEED).random((1, sizes.points, 2), np.float32)
        geometry = region_geometry(drawn, sizes)
        arrays = {
            "points": geometry.points,
            **{f"anchors_{block}": chosen for block, chosen in enumerate(geometry.anchors)},
            **{f"neighbors_{block}": near for block, near in enumerate(geometry.neighbors)},
        }
        return {name: torch.from_numpy(array)[0] for name, array in arrays.items()}

    def forward(self, boxes: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Boxes float32 [R, 4] in 0..1 -> points [R, N, 2]; per block anchors [R, S], neighbors [R, S, k]."""
        count, blocks = len(boxes), range(len(self.sizes.anchors))
        low, size = boxes[:, None, :2], boxes[:, None, 2:] - boxes[:, None, :2]
        anchors = [self.get_buffer(f"anchors_{i}").expand(count, -1) for i in blocks]
        neighbors = [self.get_buffer(f"neighbors_{i}").expand(count, -1, -1) for i in blocks]
        return low + self.points * size, anchors, neighbors


def pool_grid(features: Tensor, side: int | None) -> Tensor:
    """A map [B, C, h, w] -> tokens [B, T, C] in row-major order, averaged to side x side cells if asked."""
    if side is not None:
        features = nn.functional.adaptive_avg_pool2d(features, side)
    return features.flatten(2).transpose(1, 2)


def fill_placeholders(
    embeddings: Tensor, places: Tensor, values: Tensor | None, name: str, rows: Tensor | None = None
) -> Tensor:
    """Puts vectors where their placeholders stand, in row-major order.

    Args:
        embeddings: float [B, L, H].
        places: bool [B, L], the placeholders.
        values: float [n, H], one vector for each; None for none.
        name: of the placeholder, for the message.
        rows: int64 [n], the row that each vector belongs to, where it is known.

    Raises:
        InputError: another number of vectors than of placeholders, in all or in a row.
    """
    # A compiled model cannot look at numbers while it runs; inputs must be right there.
    if not torch.compiler.is_compiling():
        _check_counts(places, 0 if values is None else len(values), name, rows)
    if values is None or not len(values):
        return embeddings
    return embeddings.masked_scatter(places[..., None], values.to(embeddings.dtype))


def _check_counts(places: Tensor, count: int, name: str, rows: Tensor | None) -> None:
    found = places.sum(1)
    if int(found.sum()) != count:
        raise InputError(
            f"The text has {int(found.sum())} {name} placeholders, but there are {count} {name} vectors; "
            "prepare both with the same processor."
        )
    if rows is None or not count:
        return
    given = torch.bincount(rows, minlength=len(found))
    for row, (placeholders, vectors) in enumerate(zip(found.tolist(), given.tolist(), strict=True)):
        if placeholders != vectors:
            raise InputError(
                f"Row {row} of the text has {placeholders} {name} placeholders, "
                f"but there are {vectors} {name} vectors for it."
            )
