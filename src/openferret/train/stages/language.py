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
from openferret.processing.geometry import RegionGeometry, region_geometry
from openferret.train.stages.dialogues import Exchange
from openferret.train.stages.trunk import KIT_SAMPLER, TrunkModel

GRID_SIDE = 8
OBJECTS = 16
OBJECT_IOU = 0.6
LOCATION_WIDTH = 64
BOX_WIDTH = 32
PREFIX_START = "<|im_start|>user\n"
QUESTION_END = "<|im_end|>\n<|im_start|>assistant\n"
ANSWER_END = "<|im_end|>"


class LanguageModel(nn.Module):
    """The frozen trunk, what joins it to the language model, and the language model with LoRA."""

    def __init__(self, trunk: TrunkModel, base: Any, rank: int) -> None:
        super().__init__()
        self.trunk = trunk.requires_grad_(False)
        self.trunk.sampler.requires_grad_(True)
        self.trunk.namer.words.requires_grad_(True)
        width = base.config.hidden_size
        targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        base.to(torch.bfloat16).requires_grad_(False)
        self.words = base.get_input_embeddings().weight
        self.language_model = get_peft_model(
            base, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets)
        )
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

    def train(self, mode: bool = True) -> LanguageModel:
        """The trunk is only read: its namer drops nothing while the language model learns."""
        super().train(mode)
        self.trunk.eval()
        return self

    def new_rows(self) -> Tensor:
        """Embeddings of the special tokens, then of the location tokens, float [5 + 1000, E]."""
        bins = (torch.arange(prompts.LOCATION_BINS) + 0.5) / prompts.LOCATION_BINS
        return torch.cat([self.special, self.location(fourier_features(bins[:, None], LOCATION_WIDTH))])

    def pictures(self, pixels: Tensor) -> tuple[list[Tensor], Tensor]:
        """Feature maps, and the prefix's picture part: grid tokens, then object tokens, float [B, 80, E]."""
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            seen = self.trunk.vision(pixels)
            objectness, boxes = self.trunk.proposer(seen.feature_maps[-1])
        maps = [level.float() for level in seen.feature_maps]
        grid = functional.adaptive_avg_pool2d(maps[-1], GRID_SIDE).flatten(2).transpose(1, 2)
        chosen, _ = keep_distinct(boxes, objectness, OBJECTS, OBJECT_IOU)
        boxes = torch.gather(boxes, 1, chosen[..., None].expand(-1, -1, 4)).flatten(0, 1)
        points, anchors, neighbors = self.object_pattern(boxes)
        picture = torch.arange(len(pixels)).repeat_interleave(OBJECTS)
        objects = self.regions(maps, points, anchors, neighbors, picture)
        objects = objects + self.object_position(fourier_features(boxes, BOX_WIDTH))
        return maps, torch.cat([self.projector(grid), objects.unflatten(0, (len(pixels), OBJECTS))], dim=1)

    def regions(
        self,
        maps: list[Tensor],
        points: Tensor,
        anchors: list[Tensor],
        neighbors: list[Tensor],
        picture: Tensor,
    ) -> Tensor:
        """Region tokens: the sampler's vectors at the length of a word's embedding, and the namer's hint."""
        vectors = self.trunk.sampler(maps, points, anchors, neighbors, picture)
        hint = self.trunk.namer.hint(namer_features(maps, points, picture, vectors))
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
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    # Padding sees itself, or a softmax over nothing would be NaN.
    return ((own | prefix) & causal | torch.eye(length, dtype=torch.bool))[:, None]


def language_loss(
    model: LanguageModel, tokens: Tokens, pixels: Tensor, exchanges: list[list[Exchange]]
) -> tuple[Tensor, dict[str, float]]:
    """Mean cross entropy of supervised tokens, and its mean for each task."""
    sequences = [write_sequence(tokens, written) for written in exchanges]
    length = max(len(one.ids) for one in sequences)

    def pad(name: str, fill: int) -> Tensor:
        rows = [getattr(one, name) for one in sequences]
        return torch.tensor([row + [fill] * (length - len(row)) for row in rows])

    ids, segments, labels = pad("ids", tokens.box), pad("segments", -1), pad("labels", -100)
    maps, picture_tokens = model.pictures(pixels)
    drawn = [
        (row, points) for row, written in enumerate(exchanges) for one in written for points in one.regions
    ]
    new_rows = model.new_rows()
    embeddings = model.embed(ids, new_rows)
    embeddings = embeddings.masked_scatter((ids == tokens.image)[..., None], picture_tokens)
    if drawn:  # a build may ask of words alone
        geometry = region_geometry(np.stack([points for _, points in drawn]), KIT_SAMPLER)
        regions = read_regions(model, maps, geometry, torch.tensor([row for row, _ in drawn]))
        embeddings = embeddings.masked_scatter((ids == tokens.region)[..., None], regions)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.language_model.base_model.model.model(
            inputs_embeds=embeddings,
            attention_mask=visible(segments),
            position_ids=pad("positions", 0),
            use_cache=False,
        ).last_hidden_state
    rows, places = (labels >= 0).nonzero(as_tuple=True)
    with torch.autocast("cpu", torch.bfloat16):
        scores = model.logits(hidden[rows, places])
    losses = functional.cross_entropy(scores.float(), labels[rows, places], reduction="none")
    by_task: dict[str, list[float]] = {}
    numbers = segments[rows, places].tolist()
    for row, number, value in zip(rows.tolist(), numbers, losses.tolist(), strict=True):
        by_task.setdefault(exchanges[row][number - 1].task, []).append(value)
    return losses.mean(), {task: sum(values) / len(values) for task, values in by_task.items()}


def read_regions(
    model: LanguageModel, maps: list[Tensor], geometry: RegionGeometry, picture: Tensor
) -> Tensor:
    """NumPy geometry -> region tokens."""
    return model.regions(
        maps,
        torch.from_numpy(geometry.points),
        [torch.from_numpy(one) for one in geometry.anchors],
        [torch.from_numpy(one) for one in geometry.neighbors],
        picture,
    )


def cosine(share: float) -> float:
    """From 1 down to 0.02 as `share` goes from 0 to 1."""
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
