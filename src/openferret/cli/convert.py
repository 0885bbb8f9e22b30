"""`openferret convert`: checkpoints of the reference implementation to this package's layout, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Convert checkpoints of the reference implementation (Apple's Ferret) and back.")

_Out = typer.Option(metavar="DIR", help="The folder to make.")
_Quiet = typer.Option("--quiet", help="No progress bar.")
_ShardSize = typer.Option(metavar="GB", help="Most gigabytes in a file.", min=0.001)


@app.command()
def apple(
    delta: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Apple's deltas, a merged checkpoint, or a training output.",
        ),
    ],
    out: Annotated[Path, _Out],
    base: Annotated[
        Path | None,
        typer.Option(metavar="DIR", exists=True, file_okay=False, help="Vicuna v1.3, for deltas."),
    ] = None,
    vision: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="CLIP ViT-L/14 at 336 pixels, where there is no vision_tower/ in the checkpoint.",
        ),
    ] = None,
    projector: Annotated[
        Path | None, typer.Option(metavar="FILE", exists=True, dir_okay=False, help="A projector of its own.")
    ] = None,
    sampler: Annotated[
        Path | None, typer.Option(metavar="FILE", exists=True, dir_okay=False, help="A sampler of its own.")
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(metavar="DIR", exists=True, file_okay=False, help="The tokenizer, if it is elsewhere."),
    ] = None,
    base_checksums: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", exists=True, dir_okay=False, help="SHA-256 sums of the base, as sha256sum writes."
        ),
    ] = None,
    shard_size: Annotated[float, _ShardSize] = 4.0,
    quiet: Annotated[bool, _Quiet] = False,
) -> None:
    """Make a model folder of a release; run again, it goes on where it stopped."""
    from openferret.convert import Sources, convert_apple

    sources = Sources(delta, base, vision, projector, sampler)
    convert_apple(
        sources,
        out,
        tokenizer=tokenizer,
        base_checksums=base_checksums,
        shard_bytes=int(shard_size * 1e9),
        progress=not quiet,
    )
    typer.echo(out)


@app.command()
def to_apple(
    model: Annotated[
        Path,
        typer.Option(metavar="DIR", exists=True, file_okay=False, help="A model folder of the paper's kind."),
    ],
    out: Annotated[Path, _Out],
    shard_size: Annotated[float, _ShardSize] = 4.0,
    quiet: Annotated[bool, _Quiet] = False,
) -> None:
    """Write a merged checkpoint under the reference's names, bit for bit."""
    from openferret.convert import convert_to_apple

    convert_to_apple(model, out, shard_bytes=int(shard_size * 1e9), progress=not quiet)
    typer.echo(out)
