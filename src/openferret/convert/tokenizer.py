"""The tokenizer of a reference checkpoint, with the placeholders that our processor needs."""

from __future__ import annotations

import shutil
import string
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import AddedToken, AutoTokenizer, PreTrainedTokenizerFast

from openferret import prompts
from openferret.checks import shorten
from openferret.errors import WeightsError
from openferret.model.configuration import FerretConfig

TOKENIZER_FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
# SentencePiece with its 256 bytes and 3 special pieces: LLaMA's tokenizer cannot be smaller.
_SMALLEST_LLAMA = 259


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer."""
    return any((folder / name).is_file() for name in ("tokenizer.model", "tokenizer.json"))


def open_tokenizer(folders: list[Path], config: FerretConfig) -> Any:
    """The first tokenizer in some folders, with `<region_fea>` and `<image>` under the model's ids.

    A model too small for LLaMA's tokenizer, as tests have it, gets one of single characters.

    Args:
        folders: where to look, in order.
        config: of the model.

    Raises:
        WeightsError: no tokenizer, or one that does not fit the model.
    """
    place = next((folder for folder in folders if has_tokenizer(folder)), None)
    if place is not None:
        tokenizer = _opened(place)
    elif config.text_config.vocab_size < _SMALLEST_LLAMA:
        tokenizer = character_tokenizer(config.region_token_id)
    else:
        raise WeightsError(
            f"there is no tokenizer in {folders[0]}: name a folder that has it with --tokenizer"
        )
    # The reference's tokenizer drops the spaces on both sides of a region's placeholder.
    region = AddedToken(prompts.REGION_TOKEN, special=True, normalized=False, lstrip=True, rstrip=True)
    image = AddedToken(prompts.IMAGE_TOKEN, special=True, normalized=False)
    tokenizer.add_tokens([region], special_tokens=True)
    tokenizer.add_tokens([image], special_tokens=True)
    tokenizer.pad_token = tokenizer.unk_token
    for name, expected in (
        (prompts.REGION_TOKEN, config.region_token_id),
        (prompts.IMAGE_TOKEN, config.image_token_id),
    ):
        found = tokenizer.convert_tokens_to_ids(name)
        if found != expected:
            raise WeightsError(
                f"this tokenizer does not fit the model: {name} is {found} in it, but {expected} in the model"
            )
    return tokenizer


def copy_tokenizer_files(source: Path, target: Path) -> None:
    """Copies a tokenizer's own files as they are."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def character_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """A tokenizer of single characters with exactly `size` pieces.

    Example:
        >>> character_tokenizer(100)("a b", add_special_tokens=False)["input_ids"]
        [14, 98, 15]
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    pieces = ["<unk>", "<s>", "</s>", "\n", *string.digits, *string.ascii_letters, *string.punctuation, " "]
    pieces = pieces[:size] + [f"<unused{k}>" for k in range(size - len(pieces))]
    core = Tokenizer(models.WordLevel({piece: k for k, piece in enumerate(pieces)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def _opened(folder: Path) -> Any:
    needed = ("sentencepiece", "google.protobuf")
    if not (folder / "tokenizer.json").is_file() and not all(map(_is_installed, needed)):
        raise WeightsError(
            f"the tokenizer in {folder} is a SentencePiece file: run pip install 'openferret[convert]' to read it"
        )
    try:
        # Alone: what the model's configuration says of code or classes is not asked.
        with TemporaryDirectory() as alone:
            copy_tokenizer_files(folder, Path(alone))
            return AutoTokenizer.from_pretrained(alone, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as problem:
        raise WeightsError(
            f"the tokenizer in {folder} cannot be opened: {shorten(problem, 160)}"
        ) from problem


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that the module should be in
        return False
