"""Where a run begins: a model folder, Kit, or pretrained parts put together."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

from openferret import prompts
from openferret.auto import FerretConfig, FerretForConditionalGeneration, FerretProcessor
from openferret.errors import WeightsError
from openferret.loading import LoadedModel, load_model
from openferret.processing.processor import add_tokens
from openferret.train.recipes.recipe import ModelRecipe
from openferret.train.running.quiet import quiet_transformers


def load_start(recipe: ModelRecipe, seed: int) -> LoadedModel:
    """The model that a run begins with, float32 and on the CPU; the same each time.

    Args:
        recipe: `model` of the training recipe.
        seed: of what begins at random.

    Raises:
        WeightsError: a folder is missing, damaged, or of another kind.
    """
    if recipe.start is not None:
        return load_model(recipe.start, dtype=torch.float32, engine="reference")
    if recipe.vision is None or recipe.language is None:
        raise WeightsError("a model is made of both a vision tower and a language model")
    return put_together(recipe.vision, recipe.language, seed)


def put_together(vision: Path, language: Path, seed: int) -> LoadedModel:
    """The paper's model from pretrained parts; projector, sampler and the rows of new tokens begin at random.

    Args:
        vision: folder of a vision tower (`transformers`: CLIP, SigLIP, DINOv2, ...).
        language: folder of a causal language model of LLaMA's kind, with its tokenizer.
        seed: of what begins at random.

    Raises:
        WeightsError: a folder is missing, damaged, or of another kind.
    """
    try:
        with quiet_transformers():
            vision_config = AutoConfig.from_pretrained(vision, local_files_only=True)
            vision_config = getattr(vision_config, "vision_config", vision_config)
            words = add_tokens(AutoTokenizer.from_pretrained(language, local_files_only=True), "text")
            text_config = AutoConfig.from_pretrained(language, local_files_only=True)
            causal = AutoModelForCausalLM.from_pretrained(
                language, dtype=torch.float32, local_files_only=True
            )
            tower = AutoModel.from_pretrained(
                vision, config=vision_config, dtype=torch.float32, local_files_only=True
            )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as problem:
        reason = str(problem).strip().split("\n")[0]
        raise WeightsError(f"{vision} and {language} cannot be put together: {reason}") from problem
    if not hasattr(vision_config, "image_size"):
        raise WeightsError(f"{vision} is no vision tower that can be used: its config.json has no image_size")
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(seed)
        causal.resize_token_embeddings(len(words), mean_resizing=True)
        text_config.vocab_size = len(words)
        config = FerretConfig(
            vision_config=vision_config,
            text_config=text_config,
            image_token_id=words.convert_tokens_to_ids(prompts.IMAGE_TOKEN),
            region_token_id=words.convert_tokens_to_ids(prompts.REGION_TOKEN),
        )
        model = FerretForConditionalGeneration(config)
    own: nn.Module = model.model.vision_tower
    try:
        own.load_state_dict(tower.state_dict())
    except RuntimeError as problem:
        reason = " ".join(str(problem).split())[:200]
        raise WeightsError(f"{vision} is no vision tower that can be used: {reason}") from None
    model.model.language_model.load_state_dict(causal.base_model.state_dict())
    model.lm_head.load_state_dict(causal.get_output_embeddings().state_dict())
    processor = FerretProcessor.for_config(words, config)
    return LoadedModel(model.eval(), processor, f"{vision.name}+{language.name}")


def start_digest(model: FerretForConditionalGeneration) -> str:
    """What tells one beginning from another: its configuration and a few numbers of each tensor.

    Not every number: 7B of them would take a minute to read.
    """
    digest = hashlib.sha256(model.config.to_json_string().encode())
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().flatten()
        chosen = flat[:: max(len(flat) // 64, 1)].float().contiguous()
        digest.update(name.encode() + str(tuple(tensor.shape)).encode() + chosen.numpy().tobytes())
    return digest.hexdigest()
