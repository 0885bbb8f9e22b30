"""Stage T: the vision side learns phrases and boxes, without the language model.

Phrase -> place (a softmax over cells, then GIoU), each instance (focal), presence against phrases of other
pictures; region -> head noun in the language model's own word embeddings (the bridge) and -> phrase; objects
without a phrase.

Run by `openferret.train.stages.run_trunk`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from openferret.model.locator import Located, Locator, Proposer
from openferret.model.namer import RegionNamer, namer_features
from openferret.model.sampler import SpatialAwareSampler
from openferret.model.vision import EfficientNetLiteConfig, EfficientNetLiteModel, VisionOutput, cell_centres
from openferret.processing.geometry import SamplerGeometry
from openferret.train.objectives.place import place_losses
from openferret.train.stages.detected import Companions
from openferret.train.stages.devices import half_precision
from openferret.train.stages.losses import centre_cells, focal_loss, generalized_iou
from openferret.train.stages.pictures import (
    CroppedPictures,
    Named,
    PixelStore,
    Record,
    cropped,
    mirror_words,
    random_crop,
)
from openferret.train.stages.regions import KINDS, RegionTensors, draw_region

KIT_SAMPLER = SamplerGeometry(points=128, anchors=(32, 8), neighbors=(8, 8))
SAMPLER_WIDTH = 192
MAX_BOXES = 8


class TrunkModel(nn.Module):
    """Everything stage T trains."""

    def __init__(self, embedding_width: int, nouns: int) -> None:
        super().__init__()
        config = EfficientNetLiteConfig(published_trunk=True)
        self.vision = EfficientNetLiteModel(config)
        self.locator = Locator(config.neck_width, embedding_width)
        self.proposer = Proposer(config.neck_width)
        self.sampler = SpatialAwareSampler(
            config.map_channels, KIT_SAMPLER.anchors, embedding_width, width=SAMPLER_WIDTH
        )
        self.namer = RegionNamer(config.map_channels, nouns, embedding_width)
        self.region_to_phrase = nn.Linear(embedding_width, config.neck_width)
        self.noun_scale = nn.Parameter(torch.tensor(math.log(20.0)))
        self.phrase_scale = nn.Parameter(torch.tensor(math.log(10.0)))


@dataclass(frozen=True)
class Words:
    """Phrases as word embeddings of the language model.

    Attributes:
        table: float [V, E].
        encode: text -> ids, memoised.
    """

    table: Tensor
    ids: dict[str, list[int]]

    def batch(self, texts: list[str], limit: int = 24) -> tuple[Tensor, Tensor]:
        """Embeddings [P, L, E] and mask [P, L], where the table is."""
        rows = [self.ids[text][:limit] for text in texts]
        length = max(len(row) for row in rows)
        padded = torch.tensor([row + [0] * (length - len(row)) for row in rows])
        mask = torch.arange(length)[None] < torch.tensor([len(row) for row in rows])[:, None]
        return self.table[padded.to(self.table.device)], mask.to(self.table.device)


@dataclass(frozen=True)
class Batch:
    """One training batch; P phrases, of which the first Q are present; R regions; boxes in 0..1.

    Phrases of the same words, whatever their case, have the same of the `phrase_numbers`, int64 [P].
    """

    pictures: CroppedPictures
    phrases: list[str]
    phrase_numbers: Tensor
    picture: Tensor
    merged: Tensor
    boxes: Tensor
    valid: Tensor
    objects: Tensor
    object_valid: Tensor
    region_picture: Tensor
    region_nouns: Tensor
    region_phrases: Tensor
    regions: RegionTensors


def sample_batch(
    store: PixelStore,
    records: list[Record],
    nouns: dict[str, int],
    generator: np.random.Generator,
    side: int,
    phrases_each: int = 12,
    regions_each: int = 10,
    absent_each: int = 4,
    classes: Sequence[Named] = (),
    companions: Companions | None = None,
) -> Batch:
    """Draws crops, phrases, regions and phrases that are not there.

    Phrases that are not there come from the batch's other pictures; where everything of these `classes` is
    annotated (COCO's pictures, which have no captions), from the classes, as often as they occur: the frequent
    ones are the hard ones. Where a detector has been (`companions`), as many again are classes that it did not see.
    """
    crops = [random_crop(generator) for _ in records]
    texts: list[str] = []
    picture: list[int] = []
    merged: list[bool] = []
    boxes: list[list[tuple[float, ...]]] = []
    objects: list[list[tuple[float, ...]]] = []
    region_picture, region_phrases, region_points = [], [], []
    region_nouns: list[dict[int, float]] = []
    for index, (record, crop) in enumerate(zip(records, crops, strict=True)):
        shown: list[tuple[Named, list[tuple[float, ...]]]] = []
        for named in record.named:
            placed = [crop.place(box) for box in named.boxes]
            if all(left > 0.5 for _, left in placed):
                shown.append((named, [box for box, _ in placed]))
        objects.append(list({box for _, found in shown for box in found})[:24])
        order = generator.permutation(len(shown))
        names = record.names()
        pointed: set[object] = set()
        for position in order[:phrases_each]:
            named, found = shown[position]
            nameable = len(found) == 1 and named.boxes[0] in names and named.boxes[0] not in pointed
            if len(pointed) < regions_each and nameable:
                kind = KINDS[generator.integers(0, 3)]
                points, _ = draw_region(
                    (found[0][0], found[0][1], found[0][2], found[0][3]), kind, KIT_SAMPLER.points, generator
                )
                region_points.append(points)
                region_picture.append(index)
                shares = names[named.boxes[0]]
                region_nouns.append({nouns[head]: share for head, share in shares.items() if head in nouns})
                region_phrases.append(len(texts))
                pointed.add(named.boxes[0])
            whole = bool(generator.random() < (0.6 if len(found) > 1 else 0.8))
            if named.detected or not record.captions:  # "a cup" is any of them, where all are known
                like = {box: None for other, each in shown if other.head == named.head for box in each}
                whole = whole and len(like) == len(found)
                found = list(like)
            if whole:
                found = [
                    tuple(f(box[k] for box in found) for f, k in ((min, 0), (min, 1), (max, 2), (max, 3)))
                ]
            texts.append(vary(mirror_words(named.text) if crop.mirrored else named.text, generator))
            picture.append(index)
            merged.append(whole)
            boxes.append(found[:MAX_BOXES])
    for index, record in enumerate(records):
        exhaustive = bool(classes) and not record.captions
        for _ in range(2 * absent_each if exhaustive else absent_each):
            others = classes if exhaustive else records[generator.integers(0, len(records))].named
            if not others:
                continue
            named = others[int(generator.integers(0, len(others)))]
            if named.head not in record.heads and not (named.people and record.people):
                texts.append(vary(named.text, generator))
                picture.append(index)
                merged.append(bool(generator.random() < 0.7))
        for _ in range(absent_each if record.absent else 0):
            if companions is not None and (name := companions.absent(record, generator)) is not None:
                texts.append(vary(name, generator))
                picture.append(index)
                merged.append(bool(generator.random() < 0.7))
    padded, valid = pad_boxes(boxes, MAX_BOXES)
    object_boxes, object_valid = pad_boxes(objects, 24)
    jitter = torch.from_numpy(generator.uniform([0.75, -0.15], [1.25, 0.15], (len(records), 2))).float()
    numbers: dict[str, int] = {}
    return Batch(
        cropped(store, [record.row for record in records], crops, side, jitter),
        texts,
        torch.tensor([numbers.setdefault(text.lower(), len(numbers)) for text in texts]),
        torch.tensor(picture),
        torch.tensor(merged),
        padded,
        valid,
        object_boxes,
        object_valid,
        torch.tensor(region_picture),
        noun_shares(region_nouns, len(nouns)),
        torch.tensor(region_phrases),
        RegionTensors.of(np.stack(region_points), KIT_SAMPLER),
    )


def vary(text: str, generator: np.random.Generator) -> str:
    """Mostly lower case, as people type."""
    return text if generator.random() < 0.3 else text.lower()


def noun_shares(shares: list[dict[int, float]], nouns: int) -> Tensor:
    """Shares by noun -> float [R, N], each row summing to 1 (or 0 where no noun is known)."""
    target = torch.zeros(len(shares), nouns)
    for row, named in enumerate(shares):
        for noun, share in named.items():
            target[row, noun] = share
    return target / target.sum(-1, keepdim=True).clamp(min=1e-6)


def pad_boxes(boxes: list[list[tuple[float, ...]]], most: int) -> tuple[Tensor, Tensor]:
    """Lists of boxes -> float [n, most, 4] and bool [n, most]."""
    padded = torch.zeros(len(boxes), most, 4)
    valid = torch.zeros(len(boxes), most, dtype=torch.bool)
    for row, found in enumerate(boxes):
        if found:
            padded[row, : len(found)] = torch.tensor(found[:most])
            valid[row, : len(found)] = True
    return padded, valid


def grounding_losses(located: Located, batch: Batch, centres: Tensor) -> dict[str, Tensor]:
    """Place, boxes, instances and presence."""
    present = len(batch.boxes)
    merged = batch.merged[:present]
    losses = place_losses(located, batch.boxes, batch.valid, merged, centres)
    is_present = torch.zeros_like(located.presence)
    is_present[:present] = 1
    apart = ~batch.merged
    everywhere = torch.zeros_like(located.instance)
    everywhere[:present] = losses.inside.float()
    instance = focal_loss(located.instance[apart], everywhere[apart]).sum()
    return {
        "place": losses.place.mean(),
        "cell": losses.cell.mean(),
        "box": losses.box.mean(),
        "edge": losses.edge.mean(),
        "instance": instance / everywhere[apart].sum().clamp(min=1),
        "presence": functional.binary_cross_entropy_with_logits(located.presence, is_present),
    }


def proposal_losses(logits: Tensor, boxes: Tensor, batch: Batch, centres: Tensor) -> dict[str, Tensor]:
    """Class-agnostic objects; a cell within several belongs to the smallest."""
    cells = centre_cells(batch.objects, batch.object_valid, centres, 0.4)
    inside = cells.any(1)
    area = (batch.objects[..., 2:] - batch.objects[..., :2]).prod(-1)
    owner = area[..., None].where(cells, torch.inf).argmin(1)
    goal = torch.gather(batch.objects, 1, owner[..., None].expand(-1, -1, 4))
    overlap = generalized_iou(boxes[inside], goal[inside])
    count = inside.sum().clamp(min=1)
    return {"object": focal_loss(logits, inside.float()).sum() / count, "object_box": (1 - overlap).mean()}


def region_losses(
    model: TrunkModel, regions: Tensor, named: Tensor, phrases: Tensor, batch: Batch, nouns: Tensor
) -> dict[str, Tensor]:
    """The namer's logits against the regions' names; regions against every head noun and every phrase.

    Phrases of the same words are not opposed.
    """
    known = batch.region_nouns.sum(-1) > 0
    target = batch.region_nouns[known]
    logits = functional.normalize(regions, dim=-1) @ nouns.T * model.noun_scale.exp().clamp(max=100)
    word = functional.cross_entropy(logits[known], target)
    name = functional.cross_entropy(named[known], target)
    vectors = functional.normalize(model.region_to_phrase(regions), dim=-1)
    targets = functional.normalize(phrases, dim=-1)
    score = vectors @ targets.T * model.phrase_scale.exp().clamp(max=50)
    numbers = batch.phrase_numbers
    same = numbers[batch.region_phrases][:, None] == numbers
    same = same.scatter(1, batch.region_phrases[:, None], False)
    score = score.masked_fill(same, -torch.inf)
    return {"name": name, "word": word, "phrase": functional.cross_entropy(score, batch.region_phrases)}


WEIGHTS = {
    "place": 1.0,
    "cell": 1.0,
    "box": 2.0,
    "edge": 2.0,
    "instance": 0.5,
    "presence": 0.5,
    "object": 0.5,
}
WEIGHTS |= {"object_box": 0.5, "name": 1.0, "word": 0.3, "phrase": 0.5}


def read_regions(model: TrunkModel, seen: VisionOutput, regions: RegionTensors, picture: Tensor) -> Tensor:
    """The sampler's vectors of a batch's regions, in fp32: float [R, E]."""
    vectors: Tensor = model.sampler(
        [level.float() for level in seen.feature_maps or ()],
        regions.points,
        regions.anchors,
        regions.neighbors,
        picture,
    )
    return vectors


def name_regions(
    model: TrunkModel, seen: VisionOutput, regions: RegionTensors, picture: Tensor, vectors: Tensor
) -> Tensor:
    """The namer's logits of a batch's regions, whose sampled vectors are `read_regions`', in fp32: float [R, N]."""
    maps = [level.float() for level in seen.feature_maps or ()]
    logits: Tensor = model.namer(namer_features(maps, regions.points, picture, vectors))
    return logits


def compute_losses(model: TrunkModel, batch: Batch, words: Words, nouns: Tensor) -> dict[str, Tensor]:
    """All losses of one batch, unweighted; model, batch, words and nouns are on one device."""
    device = nouns.device
    with half_precision(device):
        seen = model.vision(batch.pictures.pixels())
        embeddings, mask = words.batch(batch.phrases)
        phrases = model.locator.phrase(embeddings, mask)
        located = model.locator(seen.feature_maps[-1], phrases, batch.picture, batch.merged)
        objectness, object_boxes = model.proposer(seen.feature_maps[-1])
    regions = read_regions(model, seen, batch.regions, batch.region_picture)
    named = name_regions(model, seen, batch.regions, batch.region_picture, regions)
    rows = int(seen.feature_maps[-1].shape[-1])
    centres = cell_centres(rows, rows, device)
    losses = grounding_losses(located, batch, centres)
    losses |= proposal_losses(objectness, object_boxes, batch, centres)
    return losses | region_losses(model, regions, named, phrases.float(), batch, nouns)


def noun_vectors(words: Words, heads: list[str]) -> Tensor:
    """Mean word embedding of each head noun, float [N, E]."""
    rows = [torch.tensor(words.ids[" " + head], device=words.table.device) for head in heads]
    return torch.stack([words.table[row].mean(0) for row in rows])


def noun_table(words: Words, heads: list[str]) -> Tensor:
    """Unit vectors of the head nouns in the language model's embedding, float [N, E]."""
    return functional.normalize(noun_vectors(words, heads), dim=-1)
