"""`openferret train kit`: the embedded model, trained again from public data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Train Kit.", rich_markup_mode="markdown")


@app.callback()
def _train() -> None:
    """Train Kit."""


@app.command()
def kit(
    data: Annotated[
        Path, typer.Option(help="Flickr30k Entities: Annotations/, Sentences/, flickr30k-images/, train.txt.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for states, logs and the adapter.")],
    trunk_minutes: Annotated[float, typer.Option(help="Of the vision side's training.")] = 120,
    language_minutes: Annotated[float, typer.Option(help="Of the language model's.")] = 90,
    start: Annotated[Path | None, typer.Option(help="An adapter.safetensors to go on from.")] = None,
) -> None:
    """Train Kit from SmolLM2, EfficientNet-Lite2 and Flickr30k Entities (and COCO, if it is there) on a CPU.

    Stopped at any moment, the same command goes on. The result is OUT/adapter.safetensors.
    """
    from openferret.train.kit import kit_stages, run_stages

    stages = kit_stages(data, out, trunk_minutes, language_minutes, start)
    run_stages(stages, out, lambda text: typer.echo(text, err=True))
    typer.echo(out / "adapter.safetensors")
