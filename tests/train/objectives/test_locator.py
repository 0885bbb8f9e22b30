"""What locator and namer learn in the general loop, and what they must not forget."""

import copy
import math

import pytest
import torch

from openferret.data.schema import PictureReference, Sample, Turn
from openferret.model.locator import Located
from openferret.model.vision import cell_centres
from openferret.regions import Box
from openferret.train.batches.batch import Dialogue, Row
from openferret.train.objectives.locator import (
    ABSENT_KEY,
    MEMORY,
    MISSING,
    NAME,
    PRESENCE,
    PRESENT,
    REMEMBERED,
    LocatorObjective,
    Memory,
    memory_loss,
    place_loss,
)
from openferret.train.objectives.namer import NamerObjective
from openferret.train.recipes.recipe import BatchRecipe, OptimizerRecipe
from openferret.train.running.loop import run_training

ONE_BOX = (Box(6, 12, 30, 36),)


def row(number, answer, boxes=ONE_BOX, **extra):
    picture = PictureReference(f"{number}.png", 60, 60, "mine", str(number))
    turns = (Turn("user", "Where is it?"), Turn("assistant", answer))
    sample = Sample(f"s{number}", picture, turns, boxes, extra=extra)
    return Row(None, (60, 60), None, (Dialogue(sample, (), (), ()),))


def tokenize(text):
    return [len(word) for word in text.split()]


def kinds(targets):
    return targets["kind"].tolist()


def test_phrases_are_asked_for_merged_and_one_by_one():
    boxes = (Box(0, 0, 30, 30), Box(30, 30, 60, 60))
    given = LocatorObjective(tokenize, absent_each=0).prepare(
        [row(1, "<phrase>Two dogs <box:0> <box:1>.", boxes)]
    )
    assert kinds(given) == [PRESENT, PRESENT]
    assert given["merged"].tolist() == [True, False]
    assert given["boxes"][0, 0].tolist() == [0, 0, 1, 1]
    assert given["valid"].sum(-1).tolist() == [1, 2]
    assert given["ids"].tolist() == [[3, 4], [3, 4]]


def test_absent_phrases_are_stated_or_other_pictures():
    first = row(1, "<phrase>a dog <box:0>", **{ABSENT_KEY: "an acme logo"})
    second = row(2, "<phrase>the cat <box:0>")
    given = LocatorObjective(tokenize).prepare([first, second])
    assert kinds(given) == [PRESENT, PRESENT, MISSING, MISSING, PRESENT, PRESENT, MISSING]
    assert given["picture"].tolist() == [0, 0, 0, 0, 1, 1, 1]
    alone = LocatorObjective(tokenize, absent_each=0).prepare([first, second])
    assert kinds(alone).count(MISSING) == 1


def test_the_same_rows_give_the_same_targets():
    memory = Memory(None, ("a man", "a cat", "a car"), each=4)
    rows = [row(1, "<phrase>a dog <box:0>"), row(2, "<phrase>a ball <box:0>")]
    first, second = (LocatorObjective(tokenize, memory).prepare(rows) for _ in range(2))
    assert kinds(first).count(REMEMBERED) == 8
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_rows_without_phrases_still_make_a_batch():
    given = LocatorObjective(tokenize).prepare([row(1, "Nothing.", ())])
    assert given["ids"].shape == (1, 1)


def located(boxes, sure):
    """A locator that is sure of a cell and gives the same box everywhere."""
    count, cells = len(boxes), 16
    place = torch.zeros(count, cells)
    place[:, 5] = sure
    everywhere = boxes[:, None].expand(-1, cells, -1)
    presence = torch.full((count,), float(sure))
    return Located(place, place - sure / 2, everywhere, boxes, presence, torch.ones(count))


def test_the_right_place_costs_less():
    truth = torch.tensor([[0.25, 0.25, 0.5, 0.5]])
    centres = cell_centres(4, 4)
    valid, merged = torch.ones(1, 1, dtype=torch.bool), torch.tensor([False])

    def loss(box, sure):
        given = located(torch.tensor([box]), sure)
        return float(place_loss(given, truth[:, None], valid, merged, centres))

    right = loss([0.25, 0.25, 0.5, 0.5], 8.0)
    assert right < loss([0.25, 0.25, 0.5, 0.5], 0.0) < loss([0.6, 0.6, 0.9, 0.9], 0.0)


def test_nothing_moved_costs_nothing():
    before = located(torch.tensor([[0.1, 0.1, 0.4, 0.4]]), 2.0)
    moved = located(torch.tensor([[0.2, 0.1, 0.5, 0.4]]), 1.0)
    assert float(memory_loss(before, before)) == pytest.approx(0, abs=1e-5)
    assert float(memory_loss(moved, before)) > 0.1


def small(making, build, start, out, objectives, rates, steps=6):
    recipe = making.recipe(
        build,
        start,
        out,
        steps=steps,
        batch=BatchRecipe(4, 4, 0),
        optimizer=OptimizerRecipe(rates, warmup=0.0),
    )
    seen = []

    class Watch:
        def __getattr__(self, name):
            return lambda *words: seen.append(words[0]) if name == "on_step" else {}

    run_training(recipe, (Watch(),), objectives)
    return seen


def test_the_locator_learns_in_the_general_loop(making, build, start, tiny, tmp_path):
    loaded = tiny.loaded("kit")
    teacher = copy.deepcopy(loaded.model.model.locator)
    memory = Memory(teacher, ("a man", "a cat"), each=2)
    objective = LocatorObjective(loaded.processor.tokenize, memory)
    seen = small(making, build, start, tmp_path / "run", (objective,), {"locator": 3e-3}, steps=12)
    assert {NAME, PRESENCE, MEMORY} <= set(seen[0].losses)
    assert seen[0].losses[MEMORY] == pytest.approx(0, abs=1e-3)
    assert all(math.isfinite(one.loss) for one in seen)
    assert sum(one.losses[NAME] for one in seen[-3:]) < sum(one.losses[NAME] for one in seen[:3])


def test_the_namer_learns_in_the_general_loop(making, build, start, tiny, tmp_path):
    teacher = copy.deepcopy(tiny.loaded("kit").model.model.namer)
    nouns = ["dog", "red ball", "picture", "box", "", "", ""]
    objective = NamerObjective(nouns, teacher)
    seen = small(making, build, start, tmp_path / "run", (objective,), {"namer": 1e-3}, steps=12)
    assert {"namer", "namer-memory"} <= set(seen[0].losses)
    assert sum(one.losses["namer"] for one in seen[-3:]) < sum(one.losses["namer"] for one in seen[:3])


def test_the_whole_phrase_is_a_noun_before_its_head_is():
    objective = NamerObjective(["logo", "acme logo"])
    given = objective.prepare([row(1, "<phrase>an acme logo <box:0>"), row(2, "<phrase>a big logo <box:0>")])
    assert sorted(given["noun"].tolist()) == [0, 1]
    assert given["points"].shape == (2, 128, 2)


def test_a_recipe_that_trains_the_locator_gets_its_objective(making, build, start, tmp_path):
    recipe = making.recipe(
        build,
        start,
        tmp_path / "run",
        steps=1,
        optimizer=OptimizerRecipe({"locator": 1e-4, "language": 1e-5}),
    )
    seen = []

    class Watch:
        def __getattr__(self, name):
            return lambda *words: seen.append(words[0]) if name == "on_step" else {}

    run_training(recipe, (Watch(),))
    assert {"language", NAME, PRESENCE} <= set(seen[0].losses)
