"""Where a run begins: pretrained parts put together, and what tells one beginning from another."""

import pytest
import torch
from transformers import CLIPVisionModel, LlamaForCausalLM

from openferret.errors import WeightsError
from openferret.train.recipes.recipe import ModelRecipe
from openferret.train.weights.starting import load_start, start_digest


@pytest.fixture(scope="module")
def parts(tiny, tmp_path_factory):
    """A vision tower and a language model as others save them; the tokenizer lacks Ferret's tokens."""
    place, config = tmp_path_factory.mktemp("parts"), tiny.paper()
    torch.manual_seed(0)
    CLIPVisionModel(config.vision_config).save_pretrained(place / "vision")
    words = tiny.tokenizer("text")
    language = LlamaForCausalLM(tiny.text_config(len(words)))
    language.save_pretrained(place / "language")
    words.save_pretrained(place / "language")
    return place, language


def test_pretrained_parts_keep_their_weights(parts):
    place, language = parts
    recipe = ModelRecipe(vision=place / "vision", language=place / "language")
    loaded = load_start(recipe, seed=0)
    own = loaded.model.model.language_model.layers[0].self_attn.q_proj.weight
    assert torch.equal(own, language.model.layers[0].self_attn.q_proj.weight)
    assert torch.equal(loaded.model.lm_head.weight, language.lm_head.weight)
    tower = CLIPVisionModel.from_pretrained(place / "vision")
    for name, weight in tower.named_parameters():
        assert torch.equal(loaded.model.model.vision_tower.get_parameter(name), weight)
    again = load_start(recipe, seed=0)
    assert start_digest(again.model) == start_digest(loaded.model)
    assert start_digest(load_start(recipe, seed=1).model) != start_digest(loaded.model)


def test_a_folder_of_another_kind_is_named(parts, tmp_path):
    place, _ = parts
    with pytest.raises(WeightsError, match="cannot be put together"):
        load_start(ModelRecipe(vision=place / "nothing", language=place / "language"), seed=0)
    with pytest.raises(WeightsError, match="no vision tower"):
        load_start(ModelRecipe(vision=place / "language", language=place / "language"), seed=0)


def test_a_stage_begins_from_parts(making, build, parts, tmp_path):
    from openferret.train.running.loop import run_training

    place, _ = parts
    recipe = making.recipe(build, tmp_path, tmp_path / "run", steps=1, stage="alignment")
    from dataclasses import replace

    recipe = replace(recipe, model=ModelRecipe(vision=place / "vision", language=place / "language"))
    assert (run_training(recipe).folder / "model.safetensors").is_file()
