"""The options that verbs share, declared once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

_POINTING = "Regions, repeated and mixed as you like: [0], [1], ... is the order typed"
_COMMON = "Every verb"


@dataclass(frozen=True)
class Pointing:
    """Regions as typed, by kind; their order across kinds is kept by `RegionsInOrder`."""

    point: Annotated[
        list[str] | None,
        typer.Option(metavar="X,Y", help="A place, in pixels.", rich_help_panel=_POINTING),
    ] = None
    box: Annotated[
        list[str] | None,
        typer.Option(metavar="X1,Y1,X2,Y2", help="A rectangle, in pixels.", rich_help_panel=_POINTING),
    ] = None
    scribble: Annotated[
        list[str] | None,
        typer.Option(metavar='"X,Y X,Y ..."', help="A stroke, in pixels.", rich_help_panel=_POINTING),
    ] = None
    polygon: Annotated[
        list[str] | None,
        typer.Option(
            metavar='"X,Y X,Y X,Y ..."', help="A closed outline, in pixels.", rich_help_panel=_POINTING
        ),
    ] = None
    mask: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="A PNG of the picture's size (non-zero, or opaque if it has alpha), or a COCO RLE in .json.",
            rich_help_panel=_POINTING,
        ),
    ] = None


@dataclass(frozen=True)
class Settings:
    """What every verb takes."""

    json: Annotated[
        bool,
        typer.Option("--json", help="Answers as lines of JSON on stdout.", rich_help_panel=_COMMON),
    ] = False
    draw: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.png",
            help="Draw the answer on the picture; with several pictures, a folder.",
            rich_help_panel=_COMMON,
        ),
    ] = None
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.jsonl",
            help="Append answers as lines of JSON; what is answered there already is skipped.",
            rich_help_panel=_COMMON,
        ),
    ] = None
    model: Annotated[
        str, typer.Option(metavar="NAME", help="kit, or a model folder.", rich_help_panel=_COMMON)
    ] = "kit"
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="cpu, cuda, cuda:1 or mps.", rich_help_panel=_COMMON)
    ] = "cpu"
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="fast (4- or 8-bit weights, on a CPU), reference (transformers) or auto: fast where it can be had. "
            "Default: $OPENFERRET_ENGINE, else auto.",
            rich_help_panel=_COMMON,
        ),
    ] = None
    seed: Annotated[
        int,
        typer.Option(min=0, max=2**32 - 1, help="Of the sampled points.", rich_help_panel=_COMMON),
    ] = 0
    max_new_tokens: Annotated[
        int | None,
        typer.Option(min=1, max=4096, help="Longest answer, in tokens.", rich_help_panel=_COMMON),
    ] = None

    def identity(self) -> dict[str, object]:
        """The settings that an answer depends on."""
        named = {"engine": self.engine} if self.engine is not None else {}
        return {"model": self.model, "seed": self.seed, "max_new_tokens": self.max_new_tokens, **named}
