"""Runs the bridge: with the trunk still, the sampler learns to name regions in the language model's words.

    python -m openferret.train.run_bridge --data DIR --trunk STATE --minutes 6

Rewrites stage T's `state.pt` (its averaged weights) in place. No language-model forward is needed, so a minute
shows the sampler more regions than stage T did in three.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from openferret.train.run_trunk import evaluate, load_records, prepare_words
from openferret.train.trunk import TrunkModel, noun_table, read_regions, region_losses, sample_batch


def main() -> None:
    """Trains the sampler until the minutes are over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--trunk", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--side", type=int, default=256)
    options = parser.parse_args()
    store, train, dev, mini = load_records(options.data, options.trunk.parent / "pictures.npy")
    words, heads = prepare_words(train + dev + mini)
    index = {head: position for position, head in enumerate(heads)}
    nouns = noun_table(words, heads)
    model = TrunkModel(words.table.shape[1])
    state = torch.load(options.trunk, weights_only=True)
    model.load_state_dict(state["average"])
    model = model.to(memory_format=torch.channels_last).requires_grad_(False)  # type: ignore[call-overload]
    learned = [*model.sampler.parameters(), *model.region_to_phrase.parameters()]
    learned += [model.noun_scale, model.phrase_scale]
    for parameter in learned:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(learned, lr=1.5e-3, weight_decay=0.05)
    began, budget, step = time.monotonic(), options.minutes * 60, 0
    print(evaluate(model, store, dev[:100], words, heads, options.side), flush=True)
    while (elapsed := time.monotonic() - began) < budget:
        generator = np.random.default_rng([2, step])
        chosen = [train[k] for k in generator.choice(len(train), options.batch, replace=False)]
        batch = sample_batch(store, chosen, index, generator, options.side, 24, 24, 0)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            seen = model.vision(batch.pixels)
            embeddings, mask = words.batch(batch.phrases)
            phrases = model.locator.phrase(embeddings, mask).float()
        regions = read_regions(model, seen, batch.geometry, batch.region_picture)
        losses = region_losses(model, regions, phrases, batch, nouns)
        optimizer.zero_grad(set_to_none=True)
        loss = losses["noun"] + 0.5 * losses["phrase"]
        loss.backward()  # type: ignore[no-untyped-call]
        for group in optimizer.param_groups:
            group["lr"] = 1.5e-3 * min((step + 1) / 30, 1.0) * (1 - elapsed / budget) + 1e-5
        optimizer.step()
        step += 1
        if step % 50 == 0:
            print(
                step, round(elapsed), {name: round(one.item(), 3) for name, one in losses.items()}, flush=True
            )
    figures = evaluate(model, store, dev, words, heads, options.side)
    print({"bridge_steps": step, **figures}, flush=True)
    state["average"] = model.state_dict()
    torch.save(state, options.trunk.with_suffix(".part"))
    options.trunk.with_suffix(".part").replace(options.trunk)


if __name__ == "__main__":
    main()
