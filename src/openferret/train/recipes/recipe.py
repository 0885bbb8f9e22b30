"""What a training run is told: typed, checked nouns. `openferret.train.recipes.reading` reads them from YAML.

Paper: arXiv 2310.07704, section 5.1 (learning rate 2e-5, batch of 128, three epochs).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from openferret.data.loading.pointing import KINDS, Shown
from openferret.errors import InputError

Stage: TypeAlias = Literal["alignment", "instruction"]
Part: TypeAlias = Literal[
    "vision", "projector", "sampler", "namer", "objects", "locator", "language", "embeddings"
]
Precision: TypeAlias = Literal["auto", "fp32", "bf16"]
Sharding: TypeAlias = Literal["auto", "fully_shard"]

_LARGEST_SEED = 2**63 - 1  # torch takes no more
PARTS: tuple[Part, ...] = get_args(Part)
DEFAULT_RATES: Mapping[Stage, Mapping[Part, float]] = {
    # Stage 1 teaches what joins the picture to the words; everything that was trained before rests.
    "alignment": {"projector": 1e-3, "sampler": 1e-3},
    "instruction": {"projector": 2e-5, "sampler": 2e-5, "language": 2e-5},
}


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise InputError(f"The recipe cannot be used: {message}.")


def _at_least(value: float, least: float, name: str) -> None:
    _require(value >= least, f"{name} must be {least} or more, not {value}")


def _above(value: float, bound: float, name: str) -> None:
    _require(bound < value < float("inf"), f"{name} must be above {bound}, not {value}")


def _within(value: float, low: float, high: float, name: str) -> None:
    _require(low <= value <= high, f"{name} must lie between {low} and {high}, not {value}")


@dataclass(frozen=True)
class LoraRecipe:
    """Low-rank updates of the language model's matrices instead of the matrices themselves (peft).

    Args:
        rank: of the updates.
        alpha: they are scaled by alpha / rank.
        dropout: share of the inputs of an update that is left out.
        targets: names of the layers that get one.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

    def __post_init__(self) -> None:
        _at_least(self.rank, 1, "model.lora.rank")
        _above(self.alpha, 0, "model.lora.alpha")
        _within(self.dropout, 0, 1, "model.lora.dropout")
        _require(bool(self.targets), "model.lora.targets must name at least one layer")


@dataclass(frozen=True)
class ModelRecipe:
    """Where the run begins.

    Args:
        start: "kit", or a model folder (`FerretForConditionalGeneration.save_pretrained`).
        vision: instead of `start`: folder of a pretrained vision tower...
        language: ...and of a pretrained language model with its tokenizer. Projector and sampler begin at random.
        lora: train low-rank updates of the language model; None trains the matrices themselves.
    """

    start: str | None = None
    vision: Path | None = None
    language: Path | None = None
    lora: LoraRecipe | None = None

    def __post_init__(self) -> None:
        parts = (self.vision is not None) + (self.language is not None)
        _require(
            (self.start is not None and not parts) or (self.start is None and parts == 2),
            "model needs `start` (kit, or a model folder), or both `vision` and `language` (folders)",
        )


@dataclass(frozen=True)
class DataRecipe:
    """What it learns from.

    Args:
        build: folders that `openferret data build` has made; their samples are taken together.
        cache: folder for samples grouped by picture and for cached features; None: inside `out`.
        dialogues: most dialogues of one picture that share its prefix in one row.
        max_length: most tokens of a row.
        regions: how a box of a question may be shown (`openferret.data.loading.pointing`).
        cache_features: run a frozen vision tower once for each picture, and keep what it saw on disk.
        workers: processes that load batches; 0 loads between the steps.
        skip_missing: leave out samples whose picture is missing, rather than stop.
        validation: share of the pictures, by hash of their name, that is kept back for the validation loss.
        mirror: share of the rows that are shown as a mirror shows them, left and right exchanged in their words too.
            Rows whose words a mirror would make wrong (`openferret.data.loading.mirroring`) stay as they are.
    """

    build: tuple[Path, ...] = ()
    cache: Path | None = None
    dialogues: int = 8
    max_length: int = 2048
    regions: tuple[Shown, ...] = KINDS
    cache_features: bool = False
    workers: int = 1
    skip_missing: bool = False
    validation: float = 0.0
    mirror: float = 0.0

    def __post_init__(self) -> None:
        _require(
            bool(self.build), "data.build must name at least one folder that `openferret data build` has made"
        )
        _at_least(self.dialogues, 1, "data.dialogues")
        _at_least(self.max_length, 16, "data.max_length")
        _at_least(self.workers, 0, "data.workers")
        _within(self.validation, 0, 0.5, "data.validation")
        _within(self.mirror, 0, 1, "data.mirror")
        _require(bool(self.regions), f"data.regions must name at least one of {', '.join(KINDS)}")


@dataclass(frozen=True)
class BatchRecipe:
    """How much goes through at once.

    Args:
        size: rows (pictures with their dialogues) of one optimiser step, over all processes.
        micro: rows of one forward pass of one process; size / (micro x processes) passes are accumulated.
        bucket: steps whose rows are sorted by length among each other, so that little is padded; 0 sorts none.
    """

    size: int = 16
    micro: int = 4
    bucket: int = 32

    def __post_init__(self) -> None:
        _at_least(self.micro, 1, "batch.micro")
        _at_least(self.bucket, 0, "batch.bucket")
        _require(
            self.size >= self.micro and self.size % self.micro == 0,
            f"batch.size ({self.size}) must be a multiple of batch.micro ({self.micro})",
        )

    def accumulation(self, processes: int) -> int:
        """Forward passes of each process in a step; InputError if the batch cannot be shared out evenly.

        >>> BatchRecipe(size=16, micro=4).accumulation(2)
        2
        """
        passes, rest = divmod(self.size, self.micro * processes)
        if rest or not passes:
            raise InputError(
                f"batch.size ({self.size}) cannot be shared out: {processes} processes take {self.micro} rows at a "
                f"time; make it a multiple of {self.micro * processes}, or batch.micro smaller"
            )
        return passes


@dataclass(frozen=True)
class OptimizerRecipe:
    """AdamW, its schedule, and what is trained.

    Args:
        rates: peak learning rate of each part; a part that is not named is frozen. Empty: the stage's defaults.
        weight_decay: of matrices; vectors and scalars have none.
        beta1: decay of the gradient's mean.
        beta2: decay of the squared gradient's mean.
        clip: most length of the gradient; longer ones are scaled down.
        warmup: share of the steps in which the rate grows from 0.
        floor: share of the peak rate that the cosine ends at.
    """

    rates: Mapping[Part, float] = field(default_factory=dict)
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    clip: float = 1.0
    warmup: float = 0.03
    floor: float = 0.0

    def __post_init__(self) -> None:
        for part, rate in self.rates.items():
            _require(part in PARTS, f"optimizer.rates knows {', '.join(PARTS)}, not {part}")
            _above(rate, 0, f"optimizer.rates.{part}")
        _within(self.weight_decay, 0, 1, "optimizer.weight_decay")
        for name, beta in (("beta1", self.beta1), ("beta2", self.beta2)):
            _require(0 <= beta < 1, f"optimizer.{name} must be 0 or more and below 1, not {beta}")
        _above(self.clip, 0, "optimizer.clip")
        _within(self.warmup, 0, 1, "optimizer.warmup")
        _within(self.floor, 0, 1, "optimizer.floor")


@dataclass(frozen=True)
class Every:
    """How often something is done, in steps; 0 for never (and, for checkpoints, at the end all the same).

    Args:
        checkpoint: everything that the run needs to go on.
        evaluate: the validation loss, and what the callbacks measure.
        keep: checkpoints that are kept, the newest.
    """

    checkpoint: int = 200
    evaluate: int = 0
    keep: int = 2

    def __post_init__(self) -> None:
        _at_least(self.checkpoint, 0, "every.checkpoint")
        _at_least(self.evaluate, 0, "every.evaluate")
        _at_least(self.keep, 1, "every.keep")


@dataclass(frozen=True)
class MonitorRecipe:
    """What watches a run.

    Args:
        boards: dashboards beside the progress and log.jsonl: "tensorboard", "trackio"; one that is not installed is
            skipped by name.
        pictures: pictures kept back (`data.validation`) that are asked at every evaluation and drawn on a panel; 0
            for none.
        tasks: benchmarks asked at every evaluation: name -> options of `openferret eval run TASK` (images,
            annotations, ... and `pictures`: only the first so many pictures).
    """

    boards: tuple[str, ...] = ("tensorboard",)
    pictures: int = 8
    tasks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _at_least(self.pictures, 0, "monitor.pictures")


@dataclass(frozen=True)
class TrainingRecipe:
    """One training run: one stage from one beginning.

    Args:
        name: of the run.
        out: folder of the run: checkpoints, logs and, at the end, `model/`.
        model: where it begins.
        data: what it learns from.
        stage: "alignment" (stage 1) or "instruction" (stage 2); decides which parts are trained if
            `optimizer.rates` does not say.
        epochs: passes over the data, also 0.5; not used if `steps` is given.
        steps: optimiser steps.
        batch: how much goes through at once.
        optimizer: AdamW and its schedule.
        losses: weight of each loss by its name; those that are not named count 1.
        precision: of the computation, "auto" for bf16 where the device computes in it; weights that are trained stay
            float32.
        activation_checkpointing: compute activations twice rather than keep them.
        sharding: "auto" leaves it to `accelerate launch` (one process, DDP, FSDP2 or DeepSpeed); "fully_shard"
            shards through torch directly, also on CPUs.
        seed: decides data order, drawn regions, initial weights and dropout.
        threads: of each process on CPUs; 0 leaves it to torch.
        every: how often what is done.
        monitor: what watches it.

    Raises:
        InputError: a value that no run could have; its name is in the message.

    >>> recipe = TrainingRecipe("mine", Path("runs/mine"), ModelRecipe("kit"), DataRecipe((Path("built"),)))
    >>> recipe.rates["projector"]
    2e-05
    """

    name: str
    out: Path
    model: ModelRecipe
    data: DataRecipe
    stage: Stage = "instruction"
    epochs: float = 1.0
    steps: int | None = None
    batch: BatchRecipe = BatchRecipe()
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    losses: Mapping[str, float] = field(default_factory=dict)
    precision: Precision = "auto"
    activation_checkpointing: bool = False
    sharding: Sharding = "auto"
    seed: int = 0
    threads: int = 0
    every: Every = Every()
    monitor: MonitorRecipe = field(default_factory=MonitorRecipe)

    def __post_init__(self) -> None:
        _require(bool(self.name.strip()), "name must be given")
        _above(self.epochs, 0, "epochs")
        if self.steps is not None:
            _at_least(self.steps, 1, "steps")
        _within(self.seed, 0, _LARGEST_SEED, "seed")
        _at_least(self.threads, 0, "threads")
        for name, weight in self.losses.items():
            _require(0 <= weight < float("inf"), f"losses.{name} must be 0 or more, not {weight}")
        _require(
            not (self.data.cache_features and "vision" in self.rates),
            "data.cache_features needs a frozen vision tower: leave optimizer.rates.vision out, or the cache",
        )
        _require(
            self.model.lora is None or "language" in self.rates,
            "model.lora is given, but the language model is frozen: add optimizer.rates.language, or set model.lora "
            "to null",
        )

    @property
    def rates(self) -> Mapping[Part, float]:
        """Peak learning rate of each part that is trained."""
        return self.optimizer.rates or DEFAULT_RATES[self.stage]
