"""How the site shows doctests: as examples, with the colours of code, wherever they stand in a docstring."""

from textwrap import indent
from typing import Any

import griffe


class DoctestsAsExamples(griffe.Extension):
    """Puts doctests that stand alone, or under "Example:", under the heading that the parser knows."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every object with its docstring."""
        if obj.docstring is not None:
            obj.docstring.value = as_examples(obj.docstring.value)


def as_examples(docstring: str) -> str:
    r"""A docstring whose doctests stand under "Examples:".

    >>> as_examples("Adds.\n\n>>> add(1, 2)\n3")
    'Adds.\n\nExamples:\n    >>> add(1, 2)\n    3'
    """
    paragraphs = docstring.replace("\nExample:\n", "\nExamples:\n").split("\n\n")
    return "\n\n".join(
        f"Examples:\n{indent(one, '    ')}" if one.startswith(">>> ") else one for one in paragraphs
    )
