"""The model that fine-tuning begins with: the given one, its namer with room for the new names."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors import safe_open

from openferret.auto import FerretForConditionalGeneration
from openferret.generation.naming import Form, plain_shares
from openferret.kit.assemble import adapter_path
from openferret.loading import LoadedModel, load_model
from openferret.phrases import takes_an, with_determiner
from openferret.train.weights.checkpoint import explained_disk
from openferret.weight_files import share_weights

NOUNS = "nouns.json"
"""Beside a model's weights: what each output of its namer stands for."""
_RARE = 6.0  # how far below the others' mean the logit of a noun begins that has not been taught


def prepare_start(model: str, classes: Sequence[str], folder: Path) -> list[str]:
    """Writes the model folder to begin with, once.

    Args:
        model: "kit" or a model folder.
        classes: that will be taught.
        folder: to write.

    Returns:
        What each output of the namer stands for; empty for a model without one.

    Raises:
        WeightsError: the model cannot be opened.
        InputError: the folder cannot be written.
    """
    if (folder / NOUNS).is_file():
        written: list[str] = json.loads((folder / NOUNS).read_text(encoding="utf-8"))
        return written
    loaded = load_model(model, dtype=torch.float32, engine="reference")
    nouns = known_nouns(model, loaded.model.config.region_nouns)
    if loaded.model.config.region_nouns:
        new = [name for name in classes if name not in nouns]
        loaded, nouns = LoadedModel(add_nouns(loaded, new), loaded.processor, loaded.name), [*nouns, *new]
    write_folder(loaded, nouns, folder)
    return nouns


def write_folder(loaded: LoadedModel, nouns: Sequence[str], folder: Path) -> None:
    """Writes a model folder with the names of its nouns, whole or not at all; one that is there is replaced.

    Raises:
        InputError: the disk is full, or the place cannot be written.
    """
    from transformers.utils import logging

    partial = folder.with_name(folder.name + ".partial")
    logging.disable_progress_bar()
    with explained_disk(folder):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        loaded.model.save_pretrained(partial)
        loaded.processor.save_pretrained(partial)
        share_weights(partial)
        (partial / NOUNS).write_text(json.dumps(list(nouns)), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)


def known_nouns(model: str, count: int) -> list[str]:
    """What the outputs of a model's namer stand for; "" where nobody wrote it down.

    Args:
        model: "kit" or a model folder.
        count: of the outputs.
    """
    path = Path(model) / NOUNS
    own = model != "kit" and path.is_file()
    nouns: list[str] = json.loads(path.read_text(encoding="utf-8")) if own else kit_nouns()
    return nouns if len(nouns) == count else [""] * count


def kit_nouns() -> list[str]:
    """The nouns that Kit was taught, in the order of its namer's outputs."""
    with safe_open(adapter_path(), framework="pt") as file:
        return str((file.metadata() or {}).get("nouns", "")).split()


def memory_phrases(classes: Sequence[str]) -> tuple[str, ...]:
    """Phrases that must not be forgotten: Kit's nouns, those being taught left out."""
    return tuple(with_determiner(noun) for noun in kit_nouns() if noun and noun not in classes)


def _forms(loaded: LoadedModel, nouns: Sequence[str], first: int) -> Iterator[Form]:
    """Nouns as class names are said, numbered from `first`."""
    for number, noun in enumerate(nouns, start=first):
        after, beginning = (tuple(loaded.processor.tokenize(before + noun)) for before in (" ", ""))
        yield number, after, beginning, takes_an(noun), *plain_shares(noun)


@torch.no_grad()
def add_nouns(loaded: LoadedModel, nouns: Sequence[str]) -> FerretForConditionalGeneration:
    """The same model with further outputs of its namer, of which it says nothing yet.

    Args:
        loaded: with a namer.
        nouns: names; the language model reads each as the mean of its words.
    """
    model: FerretForConditionalGeneration = loaded.model
    if not nouns:
        return model
    config = copy.deepcopy(loaded.model.config)
    config.region_nouns += len(nouns)
    if config.nouns:  # nothing has been fitted yet of what it means that the namer sees one of these
        config.nouns = (*config.nouns, *("" for _ in nouns))
    if config.noun_forms:
        config.noun_forms = (
            *config.noun_forms,
            *_forms(loaded, nouns, loaded.model.config.region_nouns),
        )
    wider = FerretForConditionalGeneration(config)
    state = loaded.model.state_dict()
    table = loaded.model.get_input_embeddings().weight
    words = torch.stack([table[loaded.processor.tokenize(f" {noun}")].mean(0) for noun in nouns])
    weight, bias = state["model.namer.output.weight"], state["model.namer.output.bias"]
    state["model.namer.output.weight"] = torch.cat([weight, weight.new_zeros(len(nouns), weight.shape[1])])
    state["model.namer.output.bias"] = torch.cat([bias, (bias.mean() - _RARE).expand(len(nouns))])
    state["model.namer.words.weight"] = torch.cat([state["model.namer.words.weight"], words.T], dim=1)
    wider.load_state_dict(state)
    wider.to(table.device, table.dtype).eval()
    return wider
