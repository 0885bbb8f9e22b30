r"""Runs stage R: of several descriptions that are drawn, those that people's captions agree with become likelier.

    python -m openferret.train.stages.run_rewards --data DIR --trunk STATE --language STATE --out DIR \
        --keep-sampler --reward-minutes 5 --device cuda --workers 8 --batch 32

Self-critical training (arXiv 1612.00563, 2003.09971) with the marks of `rewards.py`: stage L learns to write the next
word of a caption, and this stage to write whole ones. Stage L's own loss stays beside it, so that nothing else is
forgotten. `--language` is stage L's state, and what is written is such a state again. Saved now and then; started again
with the same `--out`, it goes on. For an accelerator: a processor shows it too few drawings to learn from.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from openferret.answer import parse_answer
from openferret.errors import InputError
from openferret.train.stages.devices import batches, half_precision, moved
from openferret.train.stages.drawing import Drawing, Drawn, opening
from openferret.train.stages.language import (
    LanguageBatch,
    LanguageModel,
    Tokens,
    cosine,
    language_loss,
    visible,
)
from openferret.train.stages.merged import MergedLayers
from openferret.train.stages.namer_folds import fold_of
from openferret.train.stages.pictures import WHOLE, CroppedPictures, Record, cropped
from openferret.train.stages.rewards import CaptionRewards, Earned, advantages
from openferret.train.stages.run_language import (
    Prepared,
    add_language_options,
    dev_losses,
    prepare,
)
from openferret.train.stages.states import plain_errors, save_state, tell

_LONGEST = 80  # tokens of a description, locations included


@dataclass(frozen=True)
class RewardBatch:
    """Pictures to describe, and stage L's questions on others.

    Attributes:
        pictures: whole.
        fold: int64 [B], which namer has not learned each.
        places: in the rewards.
        questions: of stage L.
    """

    pictures: CroppedPictures
    fold: Tensor
    places: list[int]
    questions: LanguageBatch


def marks(written: Drawn, tokens: Tokens, places: Sequence[int], rewards: CaptionRewards) -> list[Earned]:
    """What each description earns; `places` in the rewards, of each picture, which all have as many descriptions."""
    count = len(written.ids) // len(places)
    rows, complete = written.ids.tolist(), written.complete.tolist()
    lengths = written.lengths.tolist()
    kept = [row[: length - whole] for row, length, whole in zip(rows, lengths, complete, strict=True)]
    texts = tokens.tokenizer.batch_decode(kept)
    return [
        rewards.earned(parse_answer(text, 1000, 1000), places[number // count], whole)
        for number, (text, whole) in enumerate(zip(texts, complete, strict=True))
    ]


def likelihoods(
    model: LanguageModel, layers: MergedLayers, tokens: Tokens, picture_tokens: Tensor, written: Drawn
) -> tuple[Tensor, Tensor]:
    """Log-probability of each token that was chosen, float [n], and the description that it is in, int64 [n].

    All descriptions of a picture stand in one sequence, behind its prefix, and do not see each other.
    """
    device, (rows, longest) = model.device, written.ids.shape
    count = rows // len(picture_tokens)
    asked = torch.tensor(opening(tokens), device=device).expand(len(picture_tokens), -1)
    start = asked.shape[1]
    ids = torch.cat([asked, written.ids.view(-1, count * longest)], 1)
    place = torch.arange(longest, device=device)
    real = place < written.lengths[:, None]
    segment = torch.arange(1, count + 1, device=device).repeat(len(picture_tokens))[:, None]
    segment = torch.where(real, segment, -1).view(-1, count * longest)
    segments = torch.cat([torch.zeros_like(asked), segment], 1)
    positions = torch.cat([torch.arange(start, device=device), start + place.repeat(count)])
    embeddings = model.embed(ids, model.new_rows())
    embeddings = embeddings.masked_scatter((ids == tokens.image)[..., None], picture_tokens)
    with half_precision(device):
        hidden = layers(embeddings, visible(segments), positions.expand_as(ids))
        answers = hidden[:, start:].reshape(rows, longest, -1)
        first = hidden[:, start - 1 : start].repeat_interleave(count, 0)
        before = torch.cat([first, answers[:, :-1]], 1)
        row, at = (real & ~written.forced).nonzero(as_tuple=True)
        scores = model.logits(before[row, at]).float()
    return scores.log_softmax(-1).gather(1, written.ids[row, at][:, None])[:, 0], row


@torch.no_grad()
def look(
    prepared: Prepared, drawing: Drawing, records: Sequence[Record], rewards: CaptionRewards
) -> dict[str, float]:
    """Mean marks of the likeliest descriptions of pictures that nothing has learned."""
    model, questions = prepared.model, prepared.questions
    earned: list[Earned] = []
    for start in range(0, len(records), 50):
        group = records[start : start + 50]
        rows = [one.row for one in group]
        shown = moved(cropped(questions.store, rows, [WHOLE] * len(rows), questions.side), model.device)
        maps, picture_tokens = model.pictures(shown.pixels())
        written = drawing.draw(maps, picture_tokens, 1, temperature=0.0)
        earned += marks(written, questions.tokens, range(start, start + len(group)), rewards)
    return {
        "dev consensus": float(np.mean([one.consensus for one in earned])),
        "dev things": float(np.mean([one.things for one in earned])),
    }


@plain_errors
def main() -> None:
    """Trains until the minutes are over."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_language_options(parser)
    parser.add_argument("--language", type=Path, required=True, help="stage L's state")
    add_reward_options(parser)
    options = parser.parse_args()
    if options.draws < 2:
        parser.error("--draws must be 2 or more")
    prepared = prepare(options)
    language = torch.load(options.language, weights_only=True)
    prepared.load(language, options.language)
    train_on_rewards(prepared, options, language["step"])


def add_reward_options(parser: argparse.ArgumentParser) -> None:
    """Adds what stage R alone has."""
    parser.add_argument("--reward-minutes", type=float, default=5)
    parser.add_argument("--described", type=int, default=48, help="pictures a step")
    parser.add_argument("--draws", type=int, default=6, help="descriptions of each picture")
    parser.add_argument("--things", type=float, default=1.5, help="weight of what is named and boxed")
    parser.add_argument("--words", type=float, default=0.5, help="weight of stage L's own loss")
    parser.add_argument(
        "--reward-rate", type=float, default=0.25, help="factor of the highest learning rates"
    )
    parser.add_argument("--dev", type=int, default=100, help="dev pictures described when it saves")


def train_on_rewards(prepared: Prepared, options: argparse.Namespace, language_steps: int) -> None:
    """Trains until the minutes are over; `language_steps`, those of stage L, are kept in the state."""
    model, questions = prepared.model, prepared.questions
    tokens, device = questions.tokens, model.device
    described = list({one.row: one for one in prepared.shown if one.captions}.values())
    looked = [one for one in prepared.dev if one.captions][: options.dev]
    if len(described) < max(2, options.described) or len(looked) < 2:
        raise InputError(
            f"{options.data} has {len(described)} train pictures with captions and {len(looked)} of dev to look at: "
            f"--described {options.described} needs so many, and dev two"
        )
    rewards = CaptionRewards([one.captions for one in described])
    dev_rewards = CaptionRewards([one.captions for one in looked])
    layers = MergedLayers(model.decoder, model.words.dtype)
    drawing = Drawing(model, layers, tokens, _LONGEST)
    optimizer = prepared.optimizer()
    learned = [one for group in optimizer.param_groups for one in group["params"]]

    def make(number: int) -> RewardBatch:
        generator = np.random.default_rng([options.seed, 2, number])
        places = generator.choice(len(described), options.described, replace=False).tolist()
        rows = [described[k].row for k in places]
        others = [
            prepared.shown[k] for k in generator.choice(len(prepared.shown), options.batch, replace=False)
        ]
        return RewardBatch(
            cropped(questions.store, rows, [WHOLE] * len(rows), questions.side),
            torch.tensor([fold_of(row) for row in rows]),
            places,
            questions.batch(others, generator),
        )

    def report(step: int, elapsed: float) -> None:
        figures = look(prepared, drawing, looked, dev_rewards) | dev_losses(
            model, questions, prepared.dev[: options.looked]
        )
        told = {name: round(value, 4) for name, value in figures.items()}
        tell({"reward step": step, "seconds": round(elapsed), **told}, options.out)

    budget, saved = options.reward_minutes * 60, options.out / "state.pt"
    step, elapsed = prepared.resume(optimizer, saved)
    if not step:
        report(step, elapsed)
    last_save = time.monotonic()
    running: dict[str, float] = {}
    made = batches(make, step, options.workers)
    while elapsed < budget:
        began = time.monotonic()
        batch = moved(next(made), device)
        maps, picture_tokens = model.pictures(batch.pictures.pixels(), batch.fold)
        written = drawing.draw(maps, picture_tokens.detach(), options.draws)
        drawn = time.monotonic()
        earned = marks(written, tokens, batch.places, rewards)
        total = torch.tensor([one.consensus + options.things * one.things for one in earned])
        gained = advantages(total.view(-1, options.draws)).flatten().to(device)
        marked = time.monotonic()
        said, row = likelihoods(model, layers, tokens, picture_tokens, written)
        loss = -(said * gained[row]).mean()
        if options.words:
            own, _ = language_loss(model, tokens, batch.questions)
            loss = loss + options.words * own
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        factor = options.reward_rate * min((step + 1) / 20, 1.0) * cosine(elapsed / budget)
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * factor
        optimizer.step()
        step += 1
        now = time.monotonic()
        elapsed += now - began
        figures = {
            "consensus": float(np.mean([one.consensus for one in earned])),
            "things": float(np.mean([one.things for one in earned])),
            "likely": float(said.detach().mean()),
            "tokens": float(written.lengths.float().mean()),
            "ended": float(written.complete.float().mean()),
            "drawing": drawn - began,
            "marking": marked - drawn,
            "learning": now - marked,
        }
        for name, value in figures.items():
            running[name] = running.get(name, value) * 0.95 + value * 0.05
        if step % 10 == 0:
            print(step, round(elapsed), {k: round(v, 3) for k, v in running.items()}, flush=True)
        if time.monotonic() - last_save > options.save_every or elapsed >= budget:
            report(step, elapsed)
            state = prepared.state(optimizer, step, elapsed)
            save_state(state | {"language_steps": language_steps}, saved)
            last_save = time.monotonic()


if __name__ == "__main__":
    main()
