"""Kit, put together: published base weights and this package's adapter become a model folder in the cache.

The folder is what `FerretForConditionalGeneration.from_pretrained` and `FerretProcessor.from_pretrained`
open. Its name carries the adapter's digest, so another adapter never meets an old folder.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any

from openferret.errors import WeightsError
from openferret.generation.naming import Form, plain_shares
from openferret.generation.native.updates import UPDATES_FILE, write_updates
from openferret.kit.base_weights import cache_folder, file_sha256, writing_to_cache
from openferret.kit.conversion import language_model, vision_model
from openferret.kit.eight_bits import widened
from openferret.phrases import takes_an
from openferret.weight_files import share_weights

ADAPTER_FILE = "adapter.safetensors"
_COMPLETE = "complete.json"
_UNUSED = 14 * 24 * 3600  # seconds


def adapter_path() -> Path:
    """The trained adapter inside the package.

    Raises:
        WeightsError: the package was installed without it.
    """
    path = Path(str(resources.files("openferret.kit") / ADAPTER_FILE))
    if not path.is_file():
        raise WeightsError(f"{ADAPTER_FILE} is missing from the installed package; install openferret again.")
    return path


def ensure_kit(progress: bool = True) -> Path:
    """Kit's model folder, assembled by the first call and found by later ones.

    Args:
        progress: show on stderr what is being done.

    Raises:
        WeightsError: the base weights cannot be had, or the cache cannot be written.

    Example:
        >>> ensure_kit().name.startswith("kit-")  # doctest: +SKIP
        True
    """
    adapter = adapter_path()
    folder = cache_folder() / f"kit-{file_sha256(adapter)[:16]}"
    if _is_current(folder):
        with suppress(OSError):  # a cache that is only read
            (folder / _COMPLETE).touch()
        return folder
    base, trunk = language_model(progress), vision_model(progress)
    with writing_to_cache():
        if not _is_current(folder):  # another process may have made it while this one waited
            partial = folder.with_name("assembling")
            shutil.rmtree(partial, ignore_errors=True)
            assemble(base, trunk, adapter, partial)
            share_weights(partial)
            mark_whole(partial)
            shutil.rmtree(folder, ignore_errors=True)  # torn
            partial.rename(folder)
            remove_unused(folder.parent)
    return folder


def remove_unused(cache: Path) -> None:
    """Removes Kits that are torn, or that nobody has opened for a while: 0.3 GB each.

    Two versions of this package may share a cache, so others are not removed at once.
    """
    for folder in cache.glob("kit-*"):
        with suppress(OSError):
            if is_whole(folder) and time.time() - (folder / _COMPLETE).stat().st_mtime < _UNUSED:
                continue
        shutil.rmtree(folder, ignore_errors=True)


def mark_whole(folder: Path) -> None:
    """Writes the sizes of a folder's files into it, once they are all there."""
    sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    (folder / _COMPLETE).write_text(json.dumps(sizes, indent=2), encoding="utf-8")


def is_whole(folder: Path) -> bool:
    """Whether a folder was marked as whole, and every file still has its size."""
    try:
        sizes = json.loads((folder / _COMPLETE).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def _is_current(folder: Path) -> bool:
    """Whether a folder is whole, and of this version: earlier ones kept no adapter beside the weights."""
    return is_whole(folder) and (folder / UPDATES_FILE).is_file()


def assemble(base: Path, trunk: Path, adapter: Path, out_dir: Path) -> None:
    """Writes Kit as one folder: configuration, float16 weights with LoRA merged in, tokenizer and processor.

    LoRA itself is kept beside the weights, for the fast engine.

    Args:
        base: folder of the language model.
        trunk: safetensors file of EfficientNet-Lite2, published names.
        adapter: safetensors file that `openferret.train.stages.export` wrote.
        out_dir: folder to write, made where it is missing.

    Raises:
        WeightsError: the adapter does not fit this version's model.
    """
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoTokenizer

    from openferret.model.configuration import kit_config
    from openferret.model.modeling import FerretForConditionalGeneration
    from openferret.model.vision import fold_batch_norm, folded_head
    from openferret.processing.processor import FerretProcessor, add_tokens

    with safe_open(adapter, framework="pt") as file:
        metadata = file.metadata() or {}
    trained = widened(load_file(adapter))
    names = trained.get("model.namer.output.bias", torch.empty(0))
    closer = "model.closer_look.output.bias" in trained
    language = AutoConfig.from_pretrained(base)
    language.name_or_path = "SmolLM2-135M-Instruct"  # not where it lay: the folder's digest is everybody's
    config = kit_config(language, region_nouns=len(names), closer_look=closer)
    for name, values in json.loads(metadata.get("calibration", "{}")).items():
        setattr(config, name, tuple(values) if isinstance(values, list) else values)
    config.vision_config.image_size = int(metadata.get("image_size", config.vision_config.image_size))
    tokenizer = add_tokens(AutoTokenizer.from_pretrained(base))
    config.nouns = tuple(metadata.get("nouns", "").split())
    config.noun_forms = _noun_forms(tokenizer, config.nouns, json.loads(metadata.get("noun_forms", "{}")))
    with torch.device("meta"):
        model = FerretForConditionalGeneration(config)
    updates = _updates(trained, float(metadata.get("lora_scale", "nan")))
    state = _language_state(load_file(base / "model.safetensors"), trained, updates)
    published = {name: one.float() for name, one in load_file(trunk).items()}
    folded = fold_batch_norm(published, config.vision_config)
    for kept in ("trunk", "published") if config.region_nouns else ("trunk",):
        state |= {f"model.vision_tower.{kept}.{name}": one for name, one in folded.items()}
    if closer:
        state |= {f"model.closer_look.trunk.{name}": one for name, one in folded.items()}
        state |= {f"model.closer_look.head.{name}": one for name, one in folded_head(published).items()}
    state |= {name: one for name, one in trained.items() if name.startswith("model.")}
    expected = set(model.state_dict()) - {"lm_head.weight"}
    if missing := sorted(expected - set(state)) or sorted(set(state) - expected):
        raise WeightsError(
            f"{adapter.name} does not fit this openferret: tensor {missing[0]}, one of {len(missing)}."
        )
    _save(model, state, out_dir)
    write_updates(out_dir, updates)
    FerretProcessor.for_config(tokenizer, config).save_pretrained(out_dir)


def _noun_forms(
    tokenizer: Any, nouns: Sequence[str], counts: Mapping[str, Mapping[str, Sequence[float]]]
) -> tuple[Form, ...]:
    """`FerretConfig.noun_forms` from how often each noun is said in which form, with an article and without.

    Nouns of no form are left out; those of which nothing is known are said as a class name is.
    """
    forms: list[Form] = []
    for number, noun in enumerate(nouns):
        said = counts.get(noun, {noun: plain_shares(noun)})
        whole = sum(map(sum, said.values()))
        for form, (articles, others) in said.items():
            after, first = (tuple(tokenizer(before + form)["input_ids"]) for before in (" ", ""))
            shares = (round(articles / whole, 4), round(others / whole, 4))
            forms.append((number, after, first, takes_an(form), *shares))
    return tuple(forms)


def _updates(trained: dict[str, Any], lora_scale: float) -> dict[str, tuple[Any, Any]]:
    """The adapter's `up`, scaled, and `down` by the name of the weight that they change.

    Both as float16 has them, which is how they are kept beside the weights: taken out of these again, they must leave
    exactly what was published.
    """
    names = [name.removeprefix("lora.").removesuffix(".up") for name in trained if name.endswith(".up")]
    return {
        f"{name}.weight": (
            (lora_scale * trained[f"lora.{name}.up"]).half().float(),
            trained[f"lora.{name}.down"].half().float(),
        )
        for name in names
        if f"lora.{name}.down" in trained
    }


def _language_state(
    base: dict[str, Any], trained: dict[str, Any], updates: dict[str, tuple[Any, Any]]
) -> dict[str, Any]:
    """The language model's tensors under Kit's names, with LoRA merged and the new tokens' rows appended."""
    import torch

    state = {}
    for name, tensor in base.items():
        if name == "lm_head.weight":
            continue
        short = name.removeprefix("model.")
        value = tensor.float()
        if short in updates:
            up, down = updates[short]
            value = value + up @ down
        if short == "embed_tokens.weight":
            value = torch.cat([value, trained["new_rows"]])
        state[f"model.language_model.{short}"] = value
    return state


def _save(model: Any, state: dict[str, Any], out_dir: Path) -> None:
    """Configuration and float16 safetensors, as `save_pretrained` lays them out."""
    import torch
    from safetensors.torch import save_file

    out_dir.mkdir(parents=True, exist_ok=True)
    model.config.dtype = torch.float16
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(out_dir)
    tensors = {name: one.to(torch.float16).contiguous() for name, one in state.items()}
    save_file(tensors, out_dir / "model.safetensors", metadata={"format": "pt"})
