"""Kit's pretrained parts as safetensors: read once from what was published, then kept in the cache."""

import io
import json
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path

from rich.console import Console

from openferret.kit.base_weights import (
    LANGUAGE_MODEL,
    VISION_MODEL,
    BasePart,
    cache_folder,
    fetch,
    writing_to_cache,
)

_MANIFEST = "manifest.json"
"""What a converted folder was made from, and the size of each of its files in bytes."""


def language_model(progress: bool = True) -> Path:
    """The folder of SmolLM2-135M-Instruct that ``from_pretrained`` reads: model (float16) and tokenizer.

    The first call fetches the base weights where needed and converts them, which takes some 20 seconds;
    later calls only look at the sizes of the files.

    Args:
        progress: Show on stderr what is being done.

    Raises:
        WeightsError: The base weights cannot be had, or the cache cannot be written.

    Example:
        >>> from transformers import AutoModelForCausalLM
        >>> from openferret.kit.conversion import language_model
        >>> AutoModelForCausalLM.from_pretrained(language_model()).config.hidden_size  # doctest: +SKIP
        576
    """
    return _converted(LANGUAGE_MODEL, convert_language_model, progress)


def vision_model(progress: bool = True) -> Path:
    """The safetensors file of EfficientNet-Lite2 (ImageNet), converted by the first call.

    Args:
        progress: Show on stderr what is being done.

    Raises:
        WeightsError: The base weights cannot be had, or the cache cannot be written.

    Example:
        >>> from safetensors.torch import load_file
        >>> from openferret.kit.conversion import vision_model
        >>> load_file(vision_model())["_conv_stem.weight"].shape  # doctest: +SKIP
        torch.Size([32, 3, 3, 3])
    """
    return _converted(VISION_MODEL, convert_vision_model, progress) / "model.safetensors"


def convert_language_model(gguf: Path, out_dir: Path) -> None:
    """Write a GGUF language model as a ``from_pretrained`` folder: float16 safetensors and its tokenizer.

    Args:
        gguf: The GGUF file; its blocks are dequantised.
        out_dir: The folder to write to, made where it is missing.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with redirect_stderr(io.StringIO()):  # the bars that transformers would draw over ours
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=torch.float16,
            quantization_config=GgufConfig(dequantize=True),  # packed blocks can be neither trained nor saved
        )
        tokenizer.model_max_length = (
            model.config.max_position_embeddings
        )  # GGUF does not say it of the tokenizer
        model.save_pretrained(out_dir)
        tokenizer.save_pretrained(out_dir)


def convert_vision_model(checkpoint: Path, out_dir: Path) -> None:
    """Write a PyTorch checkpoint of tensors as ``out_dir/model.safetensors``, with its own names.

    Args:
        checkpoint: The ``.pth`` file; only tensors are unpickled.
        out_dir: The folder to write to, made where it is missing.
    """
    import torch
    from safetensors.torch import save_file

    tensors = torch.load(checkpoint, map_location="cpu", weights_only=True)
    out_dir.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out_dir / "model.safetensors")


def _converted(part: BasePart, convert: Callable[[Path, Path], None], progress: bool) -> Path:
    """The converted folder of a part; made whole or not at all."""
    folder = cache_folder() / part.title.lower()
    if _is_whole(folder, part):
        return folder
    weights = fetch(progress)
    source = weights.language_model_gguf if part is LANGUAGE_MODEL else weights.vision_checkpoint
    with writing_to_cache():
        if not _is_whole(folder, part):  # another process may have made it while this one waited
            partial = folder.with_name(folder.name + ".part")
            shutil.rmtree(partial, ignore_errors=True)
            with Console(file=sys.stderr, quiet=not progress).status(f"reading {part.title}, once"):
                convert(source, partial)
            sizes = {file.name: file.stat().st_size for file in sorted(partial.iterdir())}
            manifest = {"source": part.file.sha256, "sizes": sizes}
            (partial / _MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
    return folder


def _is_whole(folder: Path, part: BasePart) -> bool:
    """Whether every file of a converted folder is there in its size, made from the pinned source."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        sizes = {name: (folder / name).stat().st_size for name in manifest["sizes"]}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(manifest == {"source": part.file.sha256, "sizes": sizes})
