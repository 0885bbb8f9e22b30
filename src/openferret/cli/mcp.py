"""`openferret mcp`: the model as tools of an assistant, over stdin and stdout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openferret.cli.commands import with_options
from openferret.cli.label import Model


@with_options
def mcp(
    model: Model,
    folder: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Pictures may be read from here (repeat it); the current folder if none is given.",
        ),
    ] = None,
) -> None:
    """Serve the tools look, locate and describe_region to an assistant (Model Context Protocol, stdio).

    Nothing is read outside the folders, nothing is fetched, and the pictures stay on this machine until the
    assistant that asked is given the reply.
    """
    from openferret.cli import session
    from openferret.cli.options import Settings
    from openferret.errors import OpenFerretError

    settings = Settings(model=model.model, device=model.device, seed=model.seed)
    session.check_settings(settings)
    try:
        from openferret.serve.folders import AllowedFolders
        from openferret.serve.mcp_tools import PictureTools, mcp_server
    except ImportError as error:
        raise OpenFerretError(
            f"{error.name or 'mcp'} is not installed; run: pip install 'openferret[mcp]'"
        ) from None
    tools = PictureTools(lambda: session.load_model(settings), AllowedFolders.of(folder or [Path()]))
    mcp_server(tools).run("stdio")
