"""The body of Ferret but for the language model: pictures, regions, words and boxes (paper, section 3).

In PyTorch alone: `pretrained.py` makes a `transformers` model of it, and `openferret.light` opens one without.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from openferret.errors import InputError
from openferret.model.closer_look import CloserLook, agreed_nouns
from openferret.model.locator import Located, Locator, PhraseEncoder, Proposer, keep_distinct
from openferret.model.namer import RegionNamer, namer_features
from openferret.model.pictures import BoxPattern, EncodedPictures, fill_placeholders, pool_grid
from openferret.model.sampler import SpatialAwareSampler
from openferret.model.trunk import fourier_features

if TYPE_CHECKING:
    from openferret.model.configuration import FerretConfig

BOX_FOURIER_WIDTH = 32
OBJECT_OVERLAP = 0.6
FIRST_REGION_SCALE = 3.2  # length of a typical word embedding of SmolLM2, which region vectors stand among


class FerretBody(nn.Module):
    """Everything that reads pictures and regions and finds phrases."""

    config: Any  # `FerretConfig`, or the same values without transformers

    def _build(self, config: FerretConfig, vision_tower: nn.Module) -> None:
        """Makes every part but the language model."""
        vision, hidden = config.vision_config, config.text_config.hidden_size
        self.vision_tower = vision_tower
        self.projector = nn.Linear(vision.hidden_size, hidden)
        self.sampler = SpatialAwareSampler(
            config.map_channels,
            config.sampler_anchors,
            hidden,
            width=config.sampler_dim,
            pool=config.sampler_pool,
            align_corners=config.sampler_align_corners,
            transposed=config.transposed_sampling,
        )
        scale = torch.tensor(FIRST_REGION_SCALE)
        self.region_scale = nn.Parameter(scale) if config.normalize_regions else None
        self.namer: RegionNamer | None = None
        if config.region_nouns:
            self.namer = RegionNamer(config.map_channels, config.region_nouns, hidden)
        self.closer_look: CloserLook | None = None
        if config.closer_look_nouns:
            self.closer_look = CloserLook(vision, config.closer_look_nouns)
        self.locator: Locator | None = None
        self.proposer: Proposer | None = None
        self.object_position: nn.Linear | None = None
        if config.use_locator:
            self.locator = Locator(
                vision.hidden_size, hidden, config.locator_width, config.locator_phrase_width
            )
        if config.object_tokens:
            self.proposer = Proposer(vision.hidden_size)
            self.object_pattern = BoxPattern(config.geometry)
            self.object_position = nn.Linear(4 * BOX_FOURIER_WIDTH, hidden)

    def get_input_embeddings(self) -> nn.Module:
        """The language model's word embeddings."""
        raise NotImplementedError

    def picture_maps(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """Runs the vision tower.

        Args:
            pixel_values: float [B, 3, S, S], as the processor normalises them.

        Returns:
            float [B, C_l, h_l, w_l] for each level; the picture tokens come from the last.
        """
        pixels = pixel_values.to(self.projector.weight.dtype)
        layer = self.config.vision_feature_layer
        output = self.vision_tower(pixel_values=pixels, output_hidden_states=layer is not None)
        maps: tuple[Tensor, ...] | None = getattr(output, "feature_maps", None)
        if maps is not None:
            return tuple(maps)
        cells = output.last_hidden_state if layer is None else output.hidden_states[layer]
        side = self.config.map_side
        # Class and register tokens stand before the patches.
        patches = cells[:, -side * side :]
        return (patches.transpose(1, 2).reshape(len(patches), -1, side, side),)

    def encode_pictures(self, pixel_values: Tensor) -> EncodedPictures:
        """Pictures float [B, 3, S, S] -> everything that words and regions need of them."""
        return self.encode_maps(self.picture_maps(pixel_values))

    def encode_maps(self, maps: Sequence[Tensor]) -> EncodedPictures:
        """The part of `encode_pictures` after the vision tower, for maps that are already there."""
        maps = tuple(maps)
        tokens = self.projector(pool_grid(maps[-1], self.config.grid_side))
        if self.proposer is None or self.object_position is None:
            return EncodedPictures(tokens, maps)
        count = self.config.object_tokens
        logits, boxes = self.proposer(maps[-1])
        with torch.no_grad():
            chosen, distinct = keep_distinct(boxes, logits, count, OBJECT_OVERLAP)
        boxes = boxes.gather(1, chosen[..., None].expand(-1, -1, 4)).detach()
        points, anchors, neighbors = self.object_pattern(boxes.flatten(0, 1))
        picture = torch.arange(len(boxes), device=boxes.device).repeat_interleave(count)
        vectors, named = self._read_regions(maps, points, anchors, neighbors, picture)
        vectors = vectors.view(len(boxes), count, -1)
        place = fourier_features(boxes, BOX_FOURIER_WIDTH).to(vectors.dtype)
        objects = vectors + self.object_position(place)
        scores, nouns = logits.gather(1, chosen).sigmoid(), None
        if named is not None:
            # A noun is on a picture unless no proposal is one.
            likely = (scores * distinct)[..., None] * named.float().view(len(boxes), count, -1)
            nouns = 1 - (1 - likely).prod(1)
        return EncodedPictures(tokens, maps, objects, boxes, scores, distinct, nouns)

    def encode_regions(
        self,
        encoded: EncodedPictures,
        points: Tensor,
        anchors: Sequence[Tensor],
        neighbors: Sequence[Tensor],
        picture: Tensor,
    ) -> Tensor:
        """Regions of encoded pictures -> one vector each.

        Args:
            encoded: from `encode_pictures`.
            points: float [R, N, 2], (x, y) in 0..1.
            anchors: for each block, int64 [R, S].
            neighbors: for each block, int64 [R, S, k].
            picture: int64 [R], which of the B pictures each region lies on.

        Returns:
            float [R, H].
        """
        return self._read_regions(encoded.maps, points, anchors, neighbors, picture)[0]

    def name_regions(
        self,
        encoded: EncodedPictures,
        points: Tensor,
        anchors: Sequence[Tensor],
        neighbors: Sequence[Tensor],
        picture: Tensor,
    ) -> Tensor:
        """What the namer would call regions: probabilities of its nouns, float [R, N]. Arguments: `encode_regions`.

        Raises:
            InputError: the model has no namer.
        """
        if self.namer is None:
            raise InputError("This model has no namer: its configuration says region_nouns = 0.")
        vectors = self.sampler(encoded.maps, points, anchors, neighbors, picture)
        features = namer_features(encoded.maps, points, picture, vectors)
        probabilities: Tensor = self.namer(features).float().softmax(-1)
        return probabilities

    def look_closer(self, named: Tensor, pixels: Tensor, bounds: Tensor) -> Tensor:
        """What the namer would call regions, having looked at crops round them too.

        Args:
            named: float [R, N], from `name_regions`.
            pixels: float [R, 3, S, S], the crops, as the processor normalises pictures.
            bounds: float [R, 4], of the regions, (x1, y1, x2, y2) in 0..1.

        Returns:
            float [R, N]; as they were for a model that does not look closer.
        """
        if self.closer_look is None:
            return named
        closer = self.closer_look(pixels.to(self.projector.weight.dtype), bounds).float().softmax(-1)
        return agreed_nouns(named, closer, self.config.closer_look_weight)

    def _read_regions(
        self,
        maps: Sequence[Tensor],
        points: Tensor,
        anchors: Sequence[Tensor],
        neighbors: Sequence[Tensor],
        picture: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """A token for each region, and its nouns' probabilities where there is a namer."""
        vectors: Tensor = self.sampler(maps, points, anchors, neighbors, picture)
        tokens = vectors
        if self.region_scale is not None:
            tokens = functional.normalize(vectors.float(), dim=-1).to(vectors.dtype) * self.region_scale
        if self.namer is None:
            return tokens, None
        named = self.namer(namer_features(maps, points, picture, vectors)).softmax(-1)
        return tokens + self.namer.words(named), named

    def embed(
        self,
        input_ids: Tensor,
        encoded: EncodedPictures | None = None,
        regions: Tensor | None = None,
        region_picture: Tensor | None = None,
    ) -> Tensor:
        """Words, with pictures, objects and regions in place of their placeholders.

        Args:
            input_ids: int64 [B, L].
            encoded: P pictures in the order of their placeholders; None if the text shows none.
            regions: float [R, H], in the order of their placeholders.
            region_picture: int64 [R], the picture of each: regions must stand in the row of their picture.

        Returns:
            float [B, L, H].

        Raises:
            InputError: other numbers of vectors than of placeholders, in all or in a row.
        """
        config = self.config
        pictures = input_ids == config.image_token_id
        objects = input_ids == (-1 if config.object_token_id is None else config.object_token_id)
        regional = input_ids == config.region_token_id
        # Placeholders need no row in the embedding table.
        words: Tensor = self.get_input_embeddings()(input_ids.masked_fill(pictures | objects | regional, 0))
        if encoded is None:
            words = fill_placeholders(words, pictures, None, "picture")
            words = fill_placeholders(words, objects, None, "object")
            return fill_placeholders(words, regional, regions, "region")
        row = _rows_of_pictures(pictures, encoded)
        for places, values, name in (
            (pictures, encoded.tokens, "picture"),
            (objects, encoded.objects, "object"),
        ):
            rows = None if values is None or row is None else row.repeat_interleave(values.shape[1])
            words = fill_placeholders(
                words, places, None if values is None else values.flatten(0, 1), name, rows
            )
        region_row = None if region_picture is None or row is None else row[region_picture]
        return fill_placeholders(words, regional, regions, "region", region_row)

    def locate(
        self, encoded: EncodedPictures, phrase_ids: Tensor, mask: Tensor, picture: Tensor, merged: Tensor
    ) -> Located:
        """Finds P phrases on encoded pictures.

        Args:
            encoded: from `encode_pictures`.
            phrase_ids: int64 [P, L], the phrases' tokens; those after the 24th are not read.
            mask: bool [P, L], True where there is a token.
            picture: int64 [P], the picture each phrase is asked of.
            merged: bool [P], one hull around all instances rather than each instance.

        Raises:
            InputError: the model has no locator.
        """
        if self.locator is None:
            raise InputError("This model has no locator: its configuration says use_locator = False.")
        ids, mask = phrase_ids[:, : PhraseEncoder.max_length], mask[:, : PhraseEncoder.max_length]
        words = self.get_input_embeddings()(ids.masked_fill(~mask, 0)).detach()
        located: Located = self.locator(encoded.maps[-1], self.locator.phrase(words, mask), picture, merged)
        return located


def _rows_of_pictures(places: Tensor, encoded: EncodedPictures) -> Tensor | None:
    """The row in which each picture begins; None for a compiled model, which cannot look at numbers."""
    if torch.compiler.is_compiling():
        return None
    # A picture that goes on in the next row shows in the counts.
    first = places.flatten().nonzero()[:: encoded.tokens.shape[1], 0][: len(encoded)]
    return first // places.shape[1]
