"""Stage L: the language model reads the trunk's tokens and writes phrases.

The trunk is frozen and the language model carries LoRA. Many questions share one picture's prefix in one
sequence: each sees the prefix and itself only, and its positions start where the prefix ends, exactly as with
a cached prefix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional

from openferret import prompts
from openferret.model.locator import keep_distinct
from openferret.model.namer import namer_features
from openferret.model.pictures import BoxPattern
from openferret.model.vision import fourier_features
from openferret.train.processes.precision import computes_in_bfloat16
from openferret.train.stages.devices import half_precision
from openferret.train.stages.dialogues import Exchange
from openferret.train.stages.merged import MergedLayers
from openferret.train.stages.namer_folds import NamerFolds
from openferret.train.stages.pictures import CroppedPictures
from openferret.train.stages.regions import RegionTensors
from openferret.train.stages.trunk import KIT_SAMPLER, TrunkModel

GRID_SIDE = 8
OBJECTS = 16
OBJECT_IOU = 0.6
LOCATION_WIDTH = 64
BOX_WIDTH = 32
PREFIX_START = "<|im_start|>user\n"
QUESTION_END = "<|im_end|>\n<|im_start|>assistant\n"
ANSWER_END = "<|im_end|>"
_FULL = 16
"""Sequences are filled up to a multiple of so many tokens, which accelerators attend to faster."""


class LanguageModel(nn.Module):
    """The frozen trunk, what joins it to the language model, and the language model with LoRA.

    Args:
        trunk: of stage T.
        base: the causal language model.
        rank: of LoRA.
        dropout: of what LoRA reads, 0..1.
        folds: namers for the pictures that the trunk's has learned; None lets the trunk's name all.
    """

    def __init__(
        self,
        trunk: TrunkModel,
        base: Any,
        rank: int,
        dropout: float = 0.0,
        folds: NamerFolds | None = None,
    ) -> None:
        super().__init__()
        self.folds = folds
        self.trunk = trunk.requires_grad_(False)
        self.trunk.sampler.requires_grad_(True)
        self.trunk.namer.words.requires_grad_(True)
        width = base.config.hidden_size
        targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        if computes_in_bfloat16(base.device):
            base.to(torch.bfloat16)
        base.requires_grad_(False)
        self.words = base.get_input_embeddings().weight
        self.language_model = get_peft_model(
            base,
            LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=dropout, target_modules=targets),
        )
        self._merged: MergedLayers | None = None
        if base.device.type != "cpu" and not dropout:
            self._merged = MergedLayers(self.decoder, self.words.dtype)
        self.projector = nn.Linear(trunk.vision.config.neck_width, width)
        self.object_position = nn.Linear(4 * BOX_WIDTH, width)
        nn.init.zeros_(self.object_position.weight)
        nn.init.zeros_(self.object_position.bias)
        self.region_scale = nn.Parameter(torch.tensor(3.2))
        self.special = nn.Parameter(torch.randn(len(prompts.SPECIAL_TOKENS), width) * 0.02)
        self.location = nn.Linear(LOCATION_WIDTH, width)
        nn.init.normal_(self.location.weight, std=0.01)
        nn.init.zeros_(self.location.bias)
        self.object_pattern = BoxPattern(KIT_SAMPLER)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.special.device

    @property
    def decoder(self) -> Any:
        """The layers, with LoRA beside their matrices."""
        return self.language_model.base_model.model.model

    def hidden(self, embeddings: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """Embeddings float [B, T, E], who sees whom bool [B, 1, T, T], positions int64 [B, T] -> float [B, T, E]."""
        if self._merged is not None:
            return self._merged(embeddings, mask, positions)
        hidden: Tensor = self.decoder(
            inputs_embeds=embeddings, attention_mask=mask, position_ids=positions, use_cache=False
        ).last_hidden_state
        return hidden

    def train(self, mode: bool = True) -> LanguageModel:
        """The trunk is only read: its namer drops nothing while the language model learns."""
        super().train(mode)
        self.trunk.eval()
        return self

    def new_rows(self) -> Tensor:
        """Embeddings of the special tokens, then of the location tokens, float [5 + 1000, E]."""
        bins = (torch.arange(prompts.LOCATION_BINS, device=self.device) + 0.5) / prompts.LOCATION_BINS
        return torch.cat([self.special, self.location(fourier_features(bins[:, None], LOCATION_WIDTH))])

    def pictures(self, pixels: Tensor, fold: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
        """Feature maps, and the prefix's picture part: grid tokens, then object tokens, float [B, 80, E].

        Args:
            pixels: float [B, 3, side, side].
            fold: int64 [B], as in `regions`.
        """
        with torch.no_grad(), half_precision(self.device):
            seen = self.trunk.vision(pixels)
            objectness, boxes = self.trunk.proposer(seen.feature_maps[-1])
        maps = [level.float() for level in seen.feature_maps]
        grid = functional.adaptive_avg_pool2d(maps[-1], GRID_SIDE).flatten(2).transpose(1, 2)
        chosen, _ = keep_distinct(boxes, objectness, OBJECTS, OBJECT_IOU)
        boxes = torch.gather(boxes, 1, chosen[..., None].expand(-1, -1, 4)).flatten(0, 1)
        points, anchors, neighbors = self.object_pattern(boxes)
        picture = torch.arange(len(pixels), device=self.device).repeat_interleave(OBJECTS)
        drawn = RegionTensors(points, tuple(anchors), tuple(neighbors))
        objects = self.regions(maps, drawn, picture, fold)
        objects = objects + self.object_position(fourier_features(boxes, BOX_WIDTH))
        return maps, torch.cat([self.projector(grid), objects.unflatten(0, (len(pixels), OBJECTS))], dim=1)

    def regions(
        self, maps: list[Tensor], drawn: RegionTensors, picture: Tensor, fold: Tensor | None = None
    ) -> Tensor:
        """Region tokens: the sampler's vectors at the length of a word's embedding, and the namer's hint.

        Args:
            maps: of the pictures.
            drawn: R regions.
            picture: int64 [R], the picture that each lies on.
            fold: int64 [B], which of the `folds` names each picture's regions; None: the trunk's namer.

        Returns:
            float [R, E].
        """
        vectors = self.trunk.sampler(maps, drawn.points, drawn.anchors, drawn.neighbors, picture)
        read = namer_features(maps, drawn.points, picture, vectors)
        if self.folds is None or fold is None:
            hint = self.trunk.namer.hint(read)
        else:
            hint = self.trunk.namer.words(self.folds(read, fold[picture]).softmax(-1))
        return functional.normalize(vectors, dim=-1) * self.region_scale + hint

    def embed(self, ids: Tensor, new_rows: Tensor) -> Tensor:
        """Ids of the extended vocabulary -> float embeddings."""
        old = functional.embedding(ids.clamp(max=len(self.words) - 1), self.words).float()
        new = functional.embedding((ids - len(self.words)).clamp(min=0), new_rows)
        return torch.where((ids >= len(self.words))[..., None], new, old)

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states -> scores of words and special tokens; locations are never chosen, only forced."""
        return torch.cat([hidden @ self.words.T.to(hidden.dtype), hidden @ self.special.T], dim=-1)


@dataclass(frozen=True)
class Tokens:
    """Token ids of the fixed parts, and the tokenizer with Kit's tokens added."""

    tokenizer: Any
    base_size: int

    @property
    def special(self) -> list[int]:
        """Ids of all tokens that are no words."""
        return [one for one, token in self.tokenizer.added_tokens_decoder.items() if token.special]

    def encode(self, text: str) -> list[int]:
        """Ids, special tokens included."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    @property
    def image(self) -> int:
        """Id of the picture's placeholder."""
        return self.base_size

    @property
    def region(self) -> int:
        """Id of a region's placeholder."""
        return self.base_size + prompts.SPECIAL_TOKENS.index(prompts.REGION_TOKEN)

    @property
    def box(self) -> int:
        """Id of the token that asks for a box."""
        return self.base_size + prompts.SPECIAL_TOKENS.index(prompts.BOX_TOKEN)

    def prefix(self) -> list[int]:
        """The shared start of a sequence; the picture's tokens are placeholders."""
        return self.encode(PREFIX_START) + [self.image] * (GRID_SIDE**2 + OBJECTS) + self.encode("\n")


def extend_tokenizer(tokenizer: Any) -> Tokens:
    """Adds Kit's special and location tokens after the base vocabulary."""
    size = len(tokenizer)
    names = [*prompts.SPECIAL_TOKENS, *(prompts.location_token(k) for k in range(prompts.LOCATION_BINS))]
    tokenizer.add_tokens(names, special_tokens=True)
    return Tokens(tokenizer, size)


@dataclass(frozen=True)
class Sequence:
    """One picture's tokens: ids, positions, segments (0 is the prefix) and labels (-100: unsupervised)."""

    ids: list[int]
    positions: list[int]
    segments: list[int]
    labels: list[int]


def write_sequence(tokens: Tokens, exchanges: list[Exchange]) -> Sequence:
    """Prefix and questions in one sequence; labels are already shifted to the position that predicts them."""
    ids = tokens.prefix()
    start = len(ids)
    positions, segments, labels = list(range(start)), [0] * start, [-100] * start
    first_location = tokens.base_size + len(prompts.SPECIAL_TOKENS)
    for number, exchange in enumerate(exchanges, start=1):
        question = tokens.encode(exchange.question + QUESTION_END)
        answer = tokens.encode(exchange.answer + ANSWER_END)
        goals = [-100] * (len(question) - 1)
        for before, token in zip([None, *answer], answer, strict=False):
            # Locations are the locator's, and so is the decision for one more box after them.
            forced = token >= first_location or (
                token == tokens.box and before is not None and before >= first_location
            )
            goals.append(-100 if forced else token)
        whole = question + answer
        ids += whole
        positions += range(start, start + len(whole))
        segments += [number] * len(whole)
        labels += [*goals, -100]
    return Sequence(ids, positions, segments, labels)


def visible(segments: Tensor) -> Tensor:
    """Who sees whom, bool [B, 1, T, T]: the prefix and one's own question, nothing later; -1 is padding."""
    length = segments.shape[1]
    own = segments[:, :, None] == segments[:, None, :]
    prefix = segments[:, None, :] == 0
    causal = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    # Padding sees itself, or a softmax over nothing would be NaN.
    alone = torch.eye(length, dtype=torch.bool, device=segments.device)
    return ((own | prefix) & causal | alone)[:, None]


@dataclass(frozen=True)
class LanguageBatch:
    """B pictures and what is asked about them, as tensors.

    Attributes:
        pictures: not resampled yet.
        ids: int64 [B, T].
        positions: int64 [B, T].
        segments: int64 [B, T], the question's number; 0 is the prefix, -1 padding.
        supervised: int64 [S], places in the flattened [B * T] whose hidden states predict a token of an answer.
        labels: int64 [S], those tokens.
        regions: of all questions, in order; None where none points at anything.
        region_picture: int64 [R], the picture that each lies on.
        tasks: the tasks among the questions.
        task: int64 [S], the task of each supervised token, by its place in `tasks`.
        fold: int64 [B], which namer has not learned the picture.
    """

    pictures: CroppedPictures
    ids: Tensor
    positions: Tensor
    segments: Tensor
    supervised: Tensor
    labels: Tensor
    regions: RegionTensors | None
    region_picture: Tensor
    tasks: tuple[str, ...]
    task: Tensor
    fold: Tensor


def write_batch(
    tokens: Tokens,
    pictures: CroppedPictures,
    exchanges: list[list[Exchange]],
    folds: list[int] | None = None,
) -> LanguageBatch:
    """Sequences of one length, and the geometry of all regions.

    Args:
        tokens: that write them.
        pictures: B of them.
        exchanges: on each.
        folds: of each picture, which namer has not learned it.
    """
    sequences = [write_sequence(tokens, written) for written in exchanges]
    length = -(-max(len(one.ids) for one in sequences) // _FULL) * _FULL

    def pad(rows: list[list[int]], fill: int) -> Tensor:
        return torch.tensor([row + [fill] * (length - len(row)) for row in rows])

    drawn = [
        (row, points) for row, written in enumerate(exchanges) for one in written for points in one.regions
    ]
    tasks = tuple(sorted({one.task for written in exchanges for one in written}))
    number = {task: place for place, task in enumerate(tasks)}
    segments = pad([one.segments for one in sequences], -1)
    labels = pad([one.labels for one in sequences], -100)
    rows, places = (labels >= 0).nonzero(as_tuple=True)
    supervised = zip(rows.tolist(), places.tolist(), strict=True)
    return LanguageBatch(
        pictures,
        pad([one.ids for one in sequences], tokens.box),
        pad([one.positions for one in sequences], 0),
        segments,
        rows * length + places,
        labels[rows, places],
        # A build may ask of words alone.
        RegionTensors.of(np.stack([points for _, points in drawn]), KIT_SAMPLER) if drawn else None,
        torch.tensor([row for row, _ in drawn], dtype=torch.long),
        tasks,
        torch.tensor(
            [number[exchanges[row][sequences[row].segments[place] - 1].task] for row, place in supervised]
        ),
        torch.tensor(folds or [0] * len(exchanges)),
    )


def language_loss(
    model: LanguageModel, tokens: Tokens, batch: LanguageBatch, learned: bool = True
) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean cross entropy of supervised tokens, and its mean for each task; model and batch on one device.

    Args:
        model: of stage L.
        tokens: that wrote the batch.
        batch: pictures and questions.
        learned: whether the trunk's namer has learned these pictures, so that the `folds` name their regions.
    """
    fold = batch.fold if learned else None
    maps, picture_tokens = model.pictures(batch.pictures.pixels(), fold)
    embeddings = model.embed(batch.ids, model.new_rows())
    embeddings = embeddings.masked_scatter((batch.ids == tokens.image)[..., None], picture_tokens)
    if batch.regions is not None:
        regions = model.regions(maps, batch.regions, batch.region_picture, fold)
        embeddings = embeddings.masked_scatter((batch.ids == tokens.region)[..., None], regions)
    with half_precision(model.device):
        hidden = model.hidden(embeddings, visible(batch.segments), batch.positions)
        scores = model.logits(hidden.flatten(0, 1)[batch.supervised])
    losses = functional.cross_entropy(scores.float(), batch.labels, reduction="none")
    count = losses.new_zeros(len(batch.tasks))
    total = count.index_add(0, batch.task, losses.detach())
    mean = total / count.index_add(0, batch.task, torch.ones_like(losses))
    return losses.mean(), dict(zip(batch.tasks, mean, strict=True))


def cosine(share: float) -> float:
    """From 1 down to 0.02 as `share` goes from 0 to 1."""
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
