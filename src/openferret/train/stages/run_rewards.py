"""Runs stage R: of several descriptions that Kit draws, those that people's captions agree with become likelier.

    python -m openferret.train.stages.run_rewards --data DIR --adapter ADAPTER --out DIR --minutes 60

Self-critical training (arXiv 1612.00563, 2003.09971) of LoRA alone, with the marks of `rewards.py`: stage L learns to
write the next word of a caption, and this stage to write whole ones. `--adapter` is what `export` wrote; the one
that is written is the same with another LoRA, and `calibrate` should fit its scores anew. Saved every few minutes;
started again with the same `--out`, it goes on.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from openferret import Ferret
from openferret.answer import parse_answer
from openferret.errors import InputError
from openferret.flickr30k import EntitiesPicture, development_names, read_entities
from openferret.generation.decode import Decoding, Generated
from openferret.generation.native.engine import NativeEngine
from openferret.generation.native.matrices import LowRank
from openferret.generation.native.packing import replace_updates
from openferret.generation.native.updates import read_updates
from openferret.generation.prefix import PicturePrefix, encode_prefix
from openferret.images import load_image
from openferret.kit.assemble import assemble
from openferret.kit.conversion import language_model, vision_model
from openferret.kit.eight_bits import quantized
from openferret.train.stages.describing import Describing, score_choices
from openferret.train.stages.devices import open_device
from openferret.train.stages.export import LORA_SCALE
from openferret.train.stages.language import cosine
from openferret.train.stages.rewards import CaptionRewards, Earned, advantages
from openferret.train.stages.states import plain_errors, save_state, tell

_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_LONGEST = 80  # tokens of a description, locations included


def attach(language: nn.Module, updates: dict[str, LowRank]) -> dict[str, tuple[nn.Parameter, nn.Parameter]]:
    """Takes an adapter out of a language model's weights again and puts it beside them, to be trained.

    Args:
        language: with the adapter in its weights.
        updates: the adapter, by the weights' names.

    Returns:
        `down` and `up` (not scaled) by the weights' names.
    """
    rank = next(iter(updates.values())).down.shape[0]
    weights = dict(language.named_parameters())
    language.requires_grad_(False)
    with torch.no_grad():
        for name, one in updates.items():
            weights[name].sub_(torch.from_numpy(one.up @ one.down).to(weights[name]))
    inject_adapter_in_model(
        LoraConfig(r=rank, lora_alpha=int(LORA_SCALE * rank), target_modules=list(_TARGETS)), language
    )
    trained = {}
    for name, one in updates.items():
        layer = language.get_submodule(name.removesuffix(".weight"))
        down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight  # type: ignore[index, union-attr]
        with torch.no_grad():
            down.copy_(torch.from_numpy(one.down))
            up.copy_(torch.from_numpy(one.up / LORA_SCALE))
        trained[name] = (down, up)
    return trained


@dataclass(frozen=True)
class Shown:
    """A picture whose descriptions are marked.

    Attributes:
        file: of the picture.
        place: in its `CaptionRewards`.
    """

    file: Path
    place: int


def mark(written: Generated, shown: Shown, rewards: CaptionRewards) -> Earned:
    """What a description earns."""
    answer = parse_answer(written.text, 1000, 1000)
    return rewards.earned(answer, shown.place, written.complete)


def look(describing: Describing, pictures: Sequence[Shown], rewards: CaptionRewards) -> dict[str, float]:
    """Mean marks of the likeliest descriptions."""
    earned = []
    for shown in pictures:
        prefix = encode_prefix(describing.model, describing.processor, load_image(shown.file))
        written = describing.draw(prefix, 1, Decoding(_LONGEST))[0]
        earned.append(mark(written, shown, rewards))
    return {
        "consensus": float(np.mean([one.consensus for one in earned])),
        "things": float(np.mean([one.things for one in earned])),
    }


def read_pictures(
    data: Path,
) -> tuple[list[Shown], CaptionRewards, list[Shown], CaptionRewards]:
    """Train pictures and dev pictures of Flickr30k Entities, each with its rewards."""
    names = (data / "train.txt").read_text().split()
    kept_back = development_names(names)
    groups: tuple[list[EntitiesPicture], list[EntitiesPicture]] = ([], [])
    for picture in read_entities(data, names):
        if picture.captions:
            groups[picture.name in kept_back].append(picture)
    if min(map(len, groups)) < 2:
        raise InputError(f"{data} has too few pictures with captions")
    made: list[tuple[list[Shown], CaptionRewards]] = []
    for group in groups:
        files = [data / "flickr30k-images" / f"{one.name}.jpg" for one in group]
        shown = [Shown(file, place) for place, file in enumerate(files)]
        made.append((shown, CaptionRewards([one.captions for one in group])))
    return (*made[0], *made[1])


def seen_by(prefix: PicturePrefix) -> Tensor:
    """What the namer sees on a picture, float [N]."""
    if prefix.encoded.nouns is None:
        raise InputError("only models with a namer and proposals learn from rewards")
    return prefix.encoded.nouns[0].cpu()


class Learner:
    """A model whose adapter learns from descriptions that it draws.

    Args:
        folder: of the assembled model.
        device: where it learns.
    """

    def __init__(self, folder: Path, device: str) -> None:
        reference = Ferret.load(folder, device=device, dtype=torch.float32, engine="reference").loaded
        self.model: Any = reference.model
        self.trained = attach(self.model.model.language_model, read_updates(folder))
        self.model.model.language_model.to(device)
        self.fast: NativeEngine | None = None
        loaded = reference
        if device == "cpu":
            try:
                loaded = Ferret.load(folder, engine="fast").loaded
                self.fast = cast("NativeEngine", loaded.engine)
            except InputError:
                pass  # drawn by the model that learns, then
        self.describing = Describing(loaded.model, loaded.processor)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What is trained."""
        return [one for pair in self.trained.values() for one in pair]

    def hand_on(self) -> None:
        """Lets the engine that draws go on with what was learned."""
        if self.fast is not None:
            replace_updates(self.fast.weights, self.updates())

    def updates(self) -> dict[str, LowRank]:
        """The adapter as it is now."""
        return {
            name: LowRank(LORA_SCALE * up.detach().cpu().numpy(), down.detach().cpu().numpy())
            for name, (down, up) in self.trained.items()
        }

    def learn_from(
        self, pictures: Sequence[Shown], rewards: CaptionRewards, draws: int, how: Decoding
    ) -> dict[str, float]:
        """Draws descriptions of some pictures, marks them and adds up gradients.

        Returns:
            Means of the marks, the words' log-probability, and the share of descriptions that came to their end.
        """
        describing = self.describing
        drawn: list[tuple[PicturePrefix, list[Generated]]] = []
        earned: list[list[Earned]] = []
        for number, shown in enumerate(pictures):
            prefix = encode_prefix(describing.model, describing.processor, load_image(shown.file))
            written = describing.draw(prefix, draws, replace(how, seed=how.seed + number))
            drawn.append((prefix, written))
            earned.append([mark(one, shown, rewards) for one in written])
        gained = advantages(torch.tensor([[one.total for one in several] for several in earned]))
        choices = [[describing.choices(one, seen_by(prefix)) for one in written] for prefix, written in drawn]
        count = sum(len(one) for several in choices for one in several)
        likely = 0.0
        for (prefix, written), made, by in zip(drawn, choices, gained, strict=True):
            worth = by.repeat_interleave(torch.tensor([len(one) for one in made]))
            logits = score_choices(self.model, self.opening(prefix), written, made)
            said = describing.likelihoods(logits, [one for each in made for one in each], how.temperature)
            (-(said * worth.to(said)).sum() / count).backward()
            likely += float(said.detach().sum()) / count
        each = [one for several in earned for one in several]
        return {
            "consensus": float(np.mean([one.consensus for one in each])),
            "things": float(np.mean([one.things for one in each])),
            "likely": likely,
            "ended": float(np.mean([one.complete for _, several in drawn for one in several])),
        }

    def opening(self, prefix: PicturePrefix) -> Tensor:
        """A picture's prefix and the question as embeddings, float [L, H]."""
        processor = self.describing.processor
        ids = processor.tokenize(processor.expand_pictures(processor.conversation.opening))
        asked = self.describing.question(prefix).ids
        device = self.model.device
        with torch.no_grad():
            shown = self.describing.model.model.embed(
                torch.tensor([ids], device=prefix.encoded.tokens.device), prefix.encoded
            )
            words = self.model.get_input_embeddings()(torch.tensor([asked], device=device))
        return torch.cat([shown.to(device), words], dim=1)[0]


def write_adapter(source: Path, updates: dict[str, LowRank], out: Path, steps: int) -> None:
    """An adapter with another LoRA; all else is as it was."""
    with safe_open(source, framework="pt") as file:
        metadata = file.metadata() or {}
    tensors = {name: one for name, one in load_file(source).items() if not name.startswith("lora.")}
    for name, one in updates.items():
        layer = "lora." + name.removesuffix(".weight")
        tensors |= quantized(f"{layer}.down", torch.from_numpy(one.down))
        tensors |= quantized(f"{layer}.up", torch.from_numpy(one.up / LORA_SCALE))
    save_file(tensors, out, metadata=metadata | {"reward_steps": str(steps)})


@plain_errors
def main() -> None:
    """Trains until the minutes are over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--adapter", type=Path, required=True, help="that `export` wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--write", type=Path, help="the new adapter; in --out if not given")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--pictures", type=int, default=8, help="a step")
    parser.add_argument("--draws", type=int, default=4, help="descriptions of each picture")
    parser.add_argument("--temperature", type=float, default=0.8, help="of the draws")
    parser.add_argument("--rate", type=float, default=2e-4, help="the highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-every", type=float, default=600, help="seconds")
    parser.add_argument("--dev", type=int, default=60, help="dev pictures looked at when it saves")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1")
    options = parser.parse_args()
    if options.draws < 2 or options.pictures < 1:
        parser.error("--draws must be 2 or more, and --pictures 1 or more")
    if options.temperature <= 0:
        parser.error("--temperature must be more than 0")
    train_on_rewards(options)


def train_on_rewards(options: argparse.Namespace) -> None:
    """Trains until the minutes are over."""
    options.out.mkdir(parents=True, exist_ok=True)
    open_device(options.device)
    train, rewards, dev, dev_rewards = read_pictures(options.data)
    with tempfile.TemporaryDirectory() as name:
        assemble(language_model(), vision_model(), options.adapter, Path(name))
        learner = Learner(Path(name), options.device)
    optimizer = torch.optim.AdamW(learner.parameters, weight_decay=0.0, betas=(0.9, 0.98))
    step, elapsed, saved = 0, 0.0, options.out / "state.pt"
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        with torch.no_grad():
            for parameter, kept in zip(learner.parameters, state["trained"], strict=True):
                parameter.copy_(kept)
        optimizer.load_state_dict(state["optimizer"])
        step, elapsed = state["step"], state["elapsed"]
        learner.hand_on()
    budget, running = options.minutes * 60, dict[str, float]()
    if not step:
        told = look(learner.describing, dev[: options.dev], dev_rewards)
        tell({"step": 0, "seconds": 0, **{k: round(v, 4) for k, v in told.items()}}, options.out)
    last_save = time.monotonic()
    while elapsed < budget:
        began = time.monotonic()
        generator = np.random.default_rng([options.seed, 2, step])
        chosen = [train[k] for k in generator.choice(len(train), options.pictures, replace=False)]
        how = Decoding(_LONGEST, options.temperature, seed=int(generator.integers(2**31)))
        optimizer.zero_grad(set_to_none=True)
        figures = learner.learn_from(chosen, rewards, options.draws, how)
        torch.nn.utils.clip_grad_norm_(learner.parameters, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = options.rate * min((step + 1) / 10, 1.0) * cosine(elapsed / budget)
        optimizer.step()
        learner.hand_on()
        step += 1
        elapsed += time.monotonic() - began
        for name, value in figures.items():
            running[name] = running.get(name, value) * 0.95 + value * 0.05
        if step % 5 == 0:
            print(step, round(elapsed), {k: round(v, 3) for k, v in running.items()}, flush=True)
        if time.monotonic() - last_save > options.save_every or elapsed >= budget:
            told = look(learner.describing, dev[: options.dev], dev_rewards)
            tell(
                {"step": step, "seconds": round(elapsed), **{k: round(v, 4) for k, v in told.items()}},
                options.out,
            )
            state = {
                "trained": [one.detach() for one in learner.parameters],
                "optimizer": optimizer.state_dict(),
            }
            save_state(state | {"step": step, "elapsed": elapsed}, saved)
            write_adapter(
                options.adapter, learner.updates(), options.write or options.out / "adapter.safetensors", step
            )
            last_save = time.monotonic()


if __name__ == "__main__":
    main()
