"""Runs stage L: the language model learns to read the trunk.

    python -m openferret.train.stages.run_language --data DIR --trunk STATE --out DIR --minutes 40 [--build DIR]

`--trunk` is stage T's `state.pt`; `--build` a data set that `openferret data build` has made, whose dialogues are mixed
with those written from the annotations. Saved every five minutes; started again with the same `--out`, it goes on.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from openferret import prompts
from openferret.errors import InputError
from openferret.kit.conversion import language_model
from openferret.nouns import head_noun
from openferret.train.stages.build_mixing import SHARE, BuildMixing, mix_build
from openferret.train.stages.classes import Classes, balanced_classes
from openferret.train.stages.devices import add_device_options, batches, half_precision, moved, open_device
from openferret.train.stages.dialogues import Exchange, to_bins, write_exchanges
from openferret.train.stages.export import language_tensors
from openferret.train.stages.language import (
    ANSWER_END,
    QUESTION_END,
    LanguageBatch,
    LanguageModel,
    Tokens,
    cosine,
    extend_tokenizer,
    language_loss,
    write_batch,
)
from openferret.train.stages.namer_folds import NamerFolds, fold_of
from openferret.train.stages.pictures import WHOLE, Crop, PixelStore, Record, cropped, random_crop
from openferret.train.stages.regions import KINDS, RegionTensors, draw_region
from openferret.train.stages.run_trunk import load_records
from openferret.train.stages.states import plain_errors, save_state, tell
from openferret.train.stages.trunk import KIT_SAMPLER, TrunkModel


@torch.no_grad()
def prefill(model: LanguageModel, tokens: Tokens, picture_tokens: Tensor) -> DynamicCache:
    """The language model's cache of one picture's prefix."""
    prefix = torch.tensor([tokens.prefix()], device=model.device)
    embeddings = model.embed(prefix, model.new_rows())
    embeddings = embeddings.masked_scatter((prefix == tokens.image)[..., None], picture_tokens)
    core = model.decoder
    cache = DynamicCache(config=core.config)
    with half_precision(model.device):
        core(inputs_embeds=embeddings, past_key_values=cache, use_cache=True)
    return cache


@torch.no_grad()
def answer_batch(
    model: LanguageModel,
    tokens: Tokens,
    prefix: DynamicCache,
    questions: list[list[int]],
    regions: Tensor | None,
    most: int,
) -> tuple[list[str], Tensor]:
    """Greedy answers to questions of equal length on one picture, and the first token's log-probabilities."""
    new_rows = model.new_rows()
    core = model.decoder
    cache = copy.deepcopy(prefix)
    cache.batch_repeat_interleave(len(questions))
    ids = torch.tensor(questions, device=model.device)
    step = model.embed(ids, new_rows)
    if regions is not None:
        step = step.masked_scatter((ids == tokens.region)[..., None], regions)
    written: list[Tensor] = []
    first = torch.empty(0)
    end = tokens.encode(ANSWER_END)[0]
    ended = torch.zeros(len(questions), dtype=torch.bool, device=model.device)
    with half_precision(model.device):
        while len(written) < most and not ended.all():
            hidden = core(inputs_embeds=step, past_key_values=cache, use_cache=True).last_hidden_state
            scores = model.logits(hidden[:, -1]).float()
            first = scores.log_softmax(-1) if not written else first
            best = scores.argmax(-1)
            ended = ended | (best == end)
            written.append(best)
            step = model.embed(best[:, None], new_rows)
    texts = tokens.tokenizer.batch_decode(torch.stack(written, 1))
    return [text.split(ANSWER_END)[0].strip() for text in texts], first


@torch.no_grad()
def evaluate(
    model: LanguageModel,
    tokens: Tokens,
    store: PixelStore,
    records: list[Record],
    side: int,
    count: int,
) -> dict[str, float]:
    """Head noun right for any phrase of the region, by kind, and yes/no right, on the first `count` records."""
    model.eval()
    right: dict[str, list[float]] = {kind: [] for kind in KINDS}
    exists: list[float] = []
    yes = tokens.encode(prompts.YES)[0]
    no = tokens.encode(prompts.NO)[0]
    for number, record in enumerate(records[:count]):
        shown = moved(cropped(store, [record.row], [WHOLE], side), model.device)
        single = list({one.boxes[0]: one for one in record.named if len(one.boxes) == 1}.values())[:6]
        if not single:
            continue
        generator = np.random.default_rng(number)
        maps, picture_tokens = model.pictures(shown.pixels())
        prefix = prefill(model, tokens, picture_tokens)
        for kind in KINDS:
            drawn = [draw_region(one.boxes[0], kind, KIT_SAMPLER.points, generator) for one in single]
            pointed = moved(RegionTensors.of(np.stack([one for one, _ in drawn]), KIT_SAMPLER), model.device)
            owners = torch.zeros(len(drawn), dtype=torch.long, device=model.device)
            regions = model.regions(maps, pointed, owners)
            questions = []
            for points, bounds in drawn:
                middle = (*points.mean(axis=0).tolist(), 0, 0)
                bins = to_bins(middle)[:2] if kind == "point" else to_bins(bounds)
                text = prompts.REFER.format(region=prompts.region_text(bins))
                questions.append(tokens.encode(text + QUESTION_END))
            texts, _ = answer_batch(model, tokens, prefix, questions, regions, 8)
            for text, one in zip(texts, single, strict=True):
                accepted = {other.head for other in record.named if one.boxes[0] in other.boxes}
                right[kind].append(float(head_noun(text) in accepted))
        others = records[(number * 7 + 11) % len(records)].named
        absent = [one.text.lower() for one in others if one.head not in record.heads and not one.people][:1]
        for phrase, expected in [(single[0].text.lower(), yes), *((text, no) for text in absent)]:
            question = tokens.encode(prompts.EXISTS.format(phrase=phrase) + QUESTION_END)
            _, first = answer_batch(model, tokens, prefix, [question], None, 1)
            said = yes if first[0, yes] > first[0, no] else no
            exists.append(float(said == expected))
    model.train()
    return {kind: float(np.mean(values)) for kind, values in right.items()} | {
        "exists": float(np.mean(exists))
    }


def ask(
    record: Record,
    others: list[Record],
    classes: Classes | None,
    mixing: BuildMixing | None,
    generator: np.random.Generator,
) -> tuple[Crop, list[Exchange]]:
    """What is shown of a picture in one step, and all that is asked about it."""
    for crop in (random_crop(generator, 0.75), WHOLE):
        written = write_exchanges(record, crop, others, KIT_SAMPLER.points, generator, classes)
        if mixing is not None:
            written = mixing.mix(record, crop, written, KIT_SAMPLER.points, generator)
        if written:
            break
    return crop, written


@dataclass(frozen=True)
class Questions:
    """Writes batches of pictures and questions.

    Attributes:
        tokens: that write them.
        store: pixels.
        others: records that absent phrases are drawn from.
        classes: of the pictures on which everything of them is annotated.
        mixing: a build whose dialogues are mixed in.
        side: of the pictures, in pixels.
    """

    tokens: Tokens
    store: PixelStore
    others: list[Record]
    classes: Classes | None
    mixing: BuildMixing | None
    side: int

    def batch(self, records: Sequence[Record], generator: np.random.Generator) -> LanguageBatch:
        """One view of each record, and all that is asked about it."""
        asked = [ask(one, self.others, self.classes, self.mixing, generator) for one in records]
        rows = [one.row for one in records]
        shown = cropped(self.store, rows, [crop for crop, _ in asked], self.side)
        folds = [fold_of(row) for row in rows]
        return write_batch(self.tokens, shown, [written for _, written in asked], folds)


@torch.no_grad()
def dev_losses(model: LanguageModel, questions: Questions, records: Sequence[Record]) -> dict[str, float]:
    """Mean loss of each task on pictures that nothing has learned, always in the same views and questions."""
    model.eval()
    totals: dict[str, list[Tensor]] = {}
    for start in range(0, len(records), 30):
        batch = questions.batch(records[start : start + 30], np.random.default_rng([5, start]))
        _, by_task = language_loss(model, questions.tokens, moved(batch, model.device), learned=False)
        for name, value in by_task.items():
            totals.setdefault(name, []).append(value)
    model.train()
    return {f"dev {name}": float(torch.stack(values).mean()) for name, values in sorted(totals.items())}


def add_language_options(parser: argparse.ArgumentParser) -> None:
    """Adds what stages L and R have in common."""
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--trunk", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-every", type=float, default=360, help="seconds")
    parser.add_argument(
        "--folds", type=Path, help="namers of `run_naming --folds`: hints as good as on pictures never seen"
    )
    add_device_options(parser)
    parser.add_argument(
        "--keep-sampler",
        action="store_true",
        help="the sampler and the namer's words stay as they are, so that the namer need not be trained again",
    )
    parser.add_argument(
        "--looked", type=int, default=30, help="dev pictures whose questions' losses are told when it saves"
    )
    parser.add_argument("--build", type=Path, help="a built data set, whose dialogues are mixed in")
    parser.add_argument(
        "--build-share", type=float, default=SHARE, help="of a picture's questions that are the build's"
    )


@plain_errors
def main() -> None:
    """Trains until the minutes are over."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_language_options(parser)
    parser.add_argument("--start", type=Path, help="adapter.safetensors that the first leg goes on from")
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--dropout", type=float, default=0.0, help="of what LoRA reads, 0 to 1")
    parser.add_argument("--peak", type=float, default=1.0, help="factor of the highest learning rates")
    parser.add_argument(
        "--judged", type=int, default=25, help="dev pictures on which regions are named when it saves"
    )
    options = parser.parse_args()
    if not 0 < options.build_share <= 1:
        parser.error("--build-share must be more than 0 and at most 1")
    if not 0 <= options.dropout < 1:
        parser.error("--dropout must be 0 or more, and less than 1")
    train_language(options)


@dataclass(frozen=True)
class Prepared:
    """What stage L trains, and with what.

    Attributes:
        model: on its device.
        questions: that can be asked.
        shown: records of the train pictures, and of a build's own.
        dev: records to choose by.
    """

    model: LanguageModel
    questions: Questions
    shown: list[Record]
    dev: list[Record]

    @property
    def mixed(self) -> str:
        """What build is mixed in, as a digest; empty for none."""
        mixing = self.questions.mixing
        return "" if mixing is None else mixing.digest

    def load(self, state: Mapping[str, Any], source: Path) -> None:
        """Puts trained weights in their places.

        Raises:
            InputError: they were trained with another build.
        """
        if state.get("mixed", "") != self.mixed:
            raise InputError(
                f"{source} was trained with {'another build' if state.get('mixed') else 'no build'}: give the same "
                "--build and --build-share, or another --out"
            )
        self.model.load_state_dict(state["model"], strict=False)

    def trained(self) -> dict[str, Tensor]:
        """The weights that are trained, by their names."""
        kept = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        return {name: value for name, value in self.model.state_dict().items() if name in kept}

    def state(self, optimizer: torch.optim.Optimizer, step: int, elapsed: float) -> dict[str, Any]:
        """What is saved, after so many steps and seconds."""
        kept = {"model": self.trained(), "optimizer": optimizer.state_dict(), "mixed": self.mixed}
        return kept | {"step": step, "elapsed": elapsed}

    def resume(self, optimizer: torch.optim.Optimizer, saved: Path) -> tuple[int, float]:
        """Goes on from what was saved, if anything was; the steps and seconds so far."""
        if not saved.exists():
            return 0, 0.0
        state = torch.load(saved, weights_only=True, map_location=self.model.device)
        self.load(state, saved)
        optimizer.load_state_dict(state["optimizer"])
        return state["step"], state["elapsed"]

    def optimizer(self) -> torch.optim.AdamW:
        """Of the weights that are trained; each group has its highest "rate"."""
        named = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        lora = [p for name, p in named if "lora" in name]
        sampler = [p for name, p in named if name.startswith("trunk.")]
        joints = [p for name, p in named if "lora" not in name and not name.startswith("trunk.")]
        groups = ((lora, 6e-4), (sampler, 5e-5), (joints, 1.5e-3))
        return torch.optim.AdamW(
            [{"params": group, "rate": rate} for group, rate in groups if group],
            weight_decay=0.0,
            betas=(0.9, 0.98),
            fused=self.model.device.type == "cuda",
        )


def prepare(options: argparse.Namespace, start: Path | None = None, dropout: float = 0.0) -> Prepared:
    """Reads the data, and builds the model.

    Args:
        options: of `add_language_options`.
        start: an adapter to go on from.
        dropout: of what LoRA reads, 0..1.

    Raises:
        InputError: the build cannot be used.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    device = open_device(options.device)
    pictures, train, dev, _ = load_records(options.data, options.trunk.parent / "pictures.npy")
    classes = balanced_classes(train)
    store: PixelStore = pictures
    mixing: BuildMixing | None = None
    shown = train
    if options.build is not None:
        mixing = mix_build(options.build, options.data, options.out, pictures, train, options.build_share)
        store, shown = mixing.store, [*train, *mixing.alone]
        print(mixing.summary(train), flush=True)
    folder = language_model()
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device)
    tokens = extend_tokenizer(AutoTokenizer.from_pretrained(folder))
    vision = torch.load(options.trunk, weights_only=True)
    trunk = TrunkModel(base.config.hidden_size, len(vision["heads"]))
    trunk.load_state_dict(vision["average"])
    trunk = trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    folds = None if options.folds is None else NamerFolds(torch.load(options.folds, weights_only=True))
    model = LanguageModel(trunk, base, options.rank, dropout, folds)
    if start is not None:
        model.load_state_dict(language_tensors(load_file(start)), strict=False)
    model.to(device)
    if options.keep_sampler:
        trunk.requires_grad_(False)
    return Prepared(model, Questions(tokens, store, train, classes, mixing, options.side), shown, dev)


def train_language(options: argparse.Namespace) -> Prepared:
    """Trains until the minutes are over.

    Raises:
        InputError: the build cannot be used, or is not the one that the saved state was trained with.
    """
    prepared = prepare(options, options.start, options.dropout)
    model, questions, shown, dev = prepared.model, prepared.questions, prepared.shown, prepared.dev
    tokens, device = questions.tokens, model.device
    optimizer = prepared.optimizer()
    learned = [one for group in optimizer.param_groups for one in group["params"]]
    saved = options.out / "state.pt"
    step, elapsed = prepared.resume(optimizer, saved)
    budget = options.minutes * 60

    def make(number: int) -> LanguageBatch:
        generator = np.random.default_rng([options.seed, 1, number])
        chosen = [shown[k] for k in generator.choice(len(shown), options.batch, replace=False)]
        return questions.batch(chosen, generator)

    made = batches(make, step, options.workers)
    last_save = time.monotonic()
    running: dict[str, Tensor] = {}
    while elapsed < budget:
        began = time.monotonic()
        loss, by_task = language_loss(model, tokens, moved(next(made), device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        factor = options.peak * min((step + 1) / 50, 1.0) * cosine(elapsed / budget)
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * factor
        optimizer.step()
        step += 1
        elapsed += time.monotonic() - began
        for name, value in by_task.items():
            running[name] = running.get(name, value) * 0.95 + value * 0.05
        if step % 25 == 0:
            print(
                step, round(elapsed), {k: round(float(v), 3) for k, v in sorted(running.items())}, flush=True
            )
        if time.monotonic() - last_save > options.save_every or elapsed >= budget:
            figures = dev_losses(model, questions, dev[: options.looked])
            if options.judged:
                figures |= evaluate(model, tokens, questions.store, dev, options.side, options.judged)
            line = {"step": step, "seconds": round(elapsed), **{k: round(v, 4) for k, v in figures.items()}}
            tell(line, options.out)
            save_state(prepared.state(optimizer, step, elapsed), saved)
            last_save = time.monotonic()
    return prepared


if __name__ == "__main__":
    main()
