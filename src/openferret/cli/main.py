"""The `openferret` command, put together."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from openferret import __version__
from openferret.cli import convert, data, finetune, label, mcp, model, serve, train, verbs
from openferret.cli import eval as evaluation
from openferret.cli.commands import OneLineErrors, RegionsInOrder

app = typer.Typer(
    cls=OneLineErrors,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(cls=RegionsInOrder)(verbs.refer)
app.command()(verbs.ground)
app.command()(verbs.describe)
app.command()(verbs.detect)
app.command(cls=RegionsInOrder)(verbs.ask)
app.command()(verbs.chat)
app.command()(label.label)
app.command()(finetune.finetune)
app.command()(mcp.mcp)
app.command()(serve.serve)
app.add_typer(model.app, name="model")
app.add_typer(evaluation.app, name="eval")
app.add_typer(convert.app, name="convert")
app.add_typer(train.app, name="train")
app.add_typer(data.app, name="data")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"openferret {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _openferret(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Point at anything in a picture and ask; ask for anything and see where it is.

    Coordinates are pixels of the upright picture: x to the right, y down.

    Several pictures, a folder or --out: one line of JSON an answer. A picture that cannot be used becomes a
    line with "error", and the rest goes on. Exit status: 0 done, 1 model weights, 2 input, 3 some pictures
    failed.
    """
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def run() -> None:
    """Run the command on `sys.argv` and exit."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a model may write what the terminal's encoding lacks
    app(prog_name="openferret")
