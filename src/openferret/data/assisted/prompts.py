"""What language models are told to write dialogues, from a file that a person can edit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from openferret.data.endpoints.completions import Messages
from openferret.data.files.yaml_file import check_keys, read_yaml
from openferret.errors import InputError
from openferret.eval.questions import digest

_KEYS = ("rules", "kinds", "refine", "examples")
_EXAMPLE = ("kind", "context", "dialogue")


@dataclass(frozen=True)
class Prompts:
    """The words.

    Args:
        rules: for every model.
        kinds: what to write, by kind: conversation, reasoning, detail.
        refine: what the second model is told.
        examples: (kind, context, dialogue), shown to the first model for dialogues of their kind, or all of them
            where there is none of it.
    """

    rules: str
    kinds: Mapping[str, str]
    refine: str
    examples: tuple[tuple[str, str, str], ...]

    @property
    def digest(self) -> str:
        """Twelve letters that change with any word."""
        return digest([self.rules, dict(self.kinds), self.refine, list(self.examples)])[:12]

    def to_write(self, kind: str, context: str) -> Messages:
        """The messages that ask for a dialogue of a kind."""
        messages = [{"role": "system", "content": f"{self.rules}\n{self.kinds[kind]}".strip()}]
        shown = [one for one in self.examples if one[0] == kind] or list(self.examples)
        for _, example, dialogue in shown:
            messages += [
                {"role": "user", "content": example.strip()},
                {"role": "assistant", "content": dialogue.strip()},
            ]
        return [*messages, {"role": "user", "content": context}]

    def to_refine(self, kind: str, context: str, dialogue: str) -> Messages:
        """The messages that ask for a better dialogue."""
        told = f"{self.rules}\n{self.kinds[kind]}\n{self.refine}".strip()
        asked = f"{context}\n\nDialogue:\n{dialogue}"
        return [{"role": "system", "content": told}, {"role": "user", "content": asked}]


def load_prompts(path: Path | None = None) -> Prompts:
    """Reads a file of prompts; None for the one that ships.

    Raises:
        InputError: a key that is not known, or something that is not text.
    """
    place = path or Path(str(files("openferret.data.assisted") / "prompts.yaml"))
    content = read_yaml(place)
    check_keys(content, _KEYS, str(place))
    kinds, examples = content.get("kinds"), content.get("examples") or []
    if not isinstance(kinds, Mapping) or not kinds:
        raise InputError(f"{place}: kinds must be a mapping, `kind: what to write` on each line")
    if not isinstance(examples, list):
        raise InputError(f"{place}: examples must be a list of mappings with {', '.join(_EXAMPLE)}")
    return Prompts(
        _text(content, "rules", str(place)),
        {str(kind): _text(kinds, kind, f"{place}: kinds") for kind in kinds},
        _text(content, "refine", str(place)),
        tuple(_example(one, f"{place}: example {number}") for number, one in enumerate(examples, 1)),
    )


def _example(entry: Any, where: str) -> tuple[str, str, str]:
    if not isinstance(entry, Mapping):
        raise InputError(f"{where} must be a mapping with {', '.join(_EXAMPLE)}")
    check_keys(entry, _EXAMPLE, where)
    return _text(entry, "kind", where), _text(entry, "context", where), _text(entry, "dialogue", where)


def _text(content: Mapping[str, Any], key: str, where: str) -> str:
    value = content.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where} must have {key}, as text")
    return value
