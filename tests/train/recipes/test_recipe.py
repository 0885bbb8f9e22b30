"""Recipes: what a person may write, and what they are told when it cannot be used."""

from dataclasses import replace

import pytest
import yaml

from openferret.errors import InputError
from openferret.train.recipes.reading import load_recipe, read_recipe, shipped_recipes, to_yaml
from openferret.train.recipes.recipe import BatchRecipe, ModelRecipe
from openferret.train.running.schedule import rate_scale

LEAST = {"name": "mine", "out": "runs/mine", "model": {"start": "kit"}, "data": {"build": ["built"]}}


def test_recipes_that_ship_can_be_read_and_written():
    assert {"finetune", "kit", "ferret-7b", "ferret-13b"} <= set(shipped_recipes())
    for name, path in shipped_recipes().items():
        recipe = load_recipe(name)
        assert read_recipe(yaml.safe_load(to_yaml(recipe))) == recipe
        head = path.read_text().split("name:")[0]
        assert f"openferret train {name}" in head.replace("--module ", "")
        assert "Memory" in head or name == "finetune"


@pytest.mark.parametrize("name", ["ferret-7b", "ferret-13b"])
def test_the_papers_recipes_say_what_the_paper_says(name):
    recipe = load_recipe(name)
    assert recipe.batch.size == 128
    assert recipe.epochs == 3
    assert set(recipe.rates.values()) == {2e-5}
    assert recipe.optimizer.warmup == 0.03
    assert "vision" not in recipe.rates
    assert recipe.batch.accumulation(8) * recipe.batch.micro * 8 == 128
    alignment = load_recipe(
        name,
        ["stage=alignment", "optimizer.rates={}", "model.start=null", "model.vision=v", "model.language=l"],
    )
    assert dict(alignment.rates) == {"projector": 1e-3, "sampler": 1e-3}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"optimiser": {}}, r"no key 'optimiser'; did you mean 'optimizer'"),
        ({"batch": {"micros": 2}}, r"batch has no key 'micros'; did you mean 'micro'"),
        (
            {"optimizer": {"rates": {"langauge": 1e-4}}},
            r"optimizer.rates has no key 'langauge'; did you mean 'language'",
        ),
        ({"batch": {"size": "many"}}, r"batch.size must be a whole number, not 'many'"),
        ({"batch": {"size": 6, "micro": 4}}, r"batch.size \(6\) must be a multiple of batch.micro \(4\)"),
        ({"optimizer": {"rates": {"language": -1}}}, r"optimizer.rates.language must be above 0"),
        ({"precision": "fp16"}, r"precision must be one of auto, fp32, bf16, not 'fp16'"),
        ({"epochs": 0}, r"epochs must be above 0"),
        ({"epochs": float("nan")}, r"epochs must be above 0"),
        ({"data": {}}, r"data.build must name at least one folder"),
        ({"data": {"build": ["x"], "regions": ["blob"]}}, r"data.regions must be one of point, box"),
        ({"model": {"start": "kit", "vision": "x"}}, r"`start` .*or both `vision` and `language`"),
        ({"model": {"start": "kit", "lora": {}}, "stage": "alignment"}, r"the language model is frozen"),
        (
            {"optimizer": {"rates": {"vision": 1e-5}}, "data": {"build": ["x"], "cache_features": True}},
            r"frozen vision",
        ),
        ({"name": None}, r"needs the key 'name'"),
        ({"model": []}, r"model must be a mapping"),
        ({"seed": True}, r"seed must be a whole number"),
        ({"seed": 2**63}, r"seed must lie between 0 and"),
        ({"optimizer": {"beta1": 1}}, r"optimizer.beta1 must be 0 or more and below 1, not 1"),
    ],
)
def test_what_cannot_be_used_is_named(change, told):
    content = {key: value for key, value in (LEAST | change).items() if value is not None}
    with pytest.raises(InputError, match=told):
        read_recipe(content)


def test_an_unknown_recipe_lists_those_that_ship():
    with pytest.raises(InputError, match=r"no recipe 'ferret-70b'.*ferret-7b"):
        load_recipe("ferret-70b")


def test_numbers_as_people_write_them():
    recipe = read_recipe(LEAST | {"optimizer": {"rates": {"language": "2e-5"}}})
    assert recipe.rates["language"] == 2e-5


def test_a_batch_that_cannot_be_shared_out_says_by_whom():
    with pytest.raises(InputError, match=r"3 processes take 4 rows at a time; make it a multiple of 12"):
        BatchRecipe(size=16, micro=4).accumulation(3)


def test_the_rate_rises_falls_and_ends():
    steps = 200
    scales = [rate_scale(step, steps, 0.03, 0.1) for step in range(1, steps + 1)]
    assert scales[5] == max(scales) == 1.0
    assert scales[:6] == sorted(scales[:6])
    assert scales[5:] == sorted(scales[5:], reverse=True)
    assert scales[-1] == pytest.approx(0.1)
    assert rate_scale(1, 1, 0.0, 0.0) == pytest.approx(0.0)


def test_default_parts_belong_to_the_stage():
    recipe = read_recipe(LEAST | {"model": {"start": "kit"}})
    assert set(recipe.rates) == {"projector", "sampler", "language"}
    assert set(replace(recipe, stage="alignment", model=ModelRecipe("kit")).rates) == {"projector", "sampler"}
