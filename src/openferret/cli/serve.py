"""`openferret serve`: the page and the HTTP API."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openferret.errors import InputError

if TYPE_CHECKING:
    from openferret.serve.app import ServerSettings

_DRAIN_SECONDS = 18  # of the 20 in which a server that is told to stop is gone


def serve(
    model: Annotated[str, typer.Option(metavar="NAME", help="kit, or a model folder.")] = "kit",
    host: Annotated[str, typer.Option(metavar="HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    api_key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keys, one a line; needed for any host but this machine."),
    ] = None,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="cpu, cuda, cuda:1 or mps.")] = "cpu",
    deadline: Annotated[float, typer.Option(min=1, max=3600, help="Seconds for an answer.")] = 60.0,
    allow_image_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST", help="Fetch pictures by https from this host; repeatable. Off without it."
        ),
    ] = None,
) -> None:
    """Serve the page and an OpenAI-compatible API until stopped."""
    settings = _settings(host, api_key_file, deadline, allow_image_host or [])
    from openferret.cli.options import Settings
    from openferret.cli.session import check_settings, load_model

    chosen = Settings(model=model, device=device)
    check_settings(chosen)
    from openferret.serve.running import run_server

    run_server(load_model(chosen).loaded, settings, host, port, _DRAIN_SECONDS)


def _settings(host: str, key_file: Path | None, deadline: float, fetch_hosts: list[str]) -> ServerSettings:
    try:
        from openferret.serve.app import ServerSettings
        from openferret.serve.auth import read_keys
    except ModuleNotFoundError as error:
        raise InputError(
            f"serving needs {error.name}, which is not installed: pip install 'openferret[serve]'"
        ) from error
    keys = () if key_file is None else read_keys(key_file)
    if not keys and not _is_loopback(host):
        raise InputError(f"{host} can be reached by others: give --api-key-file, or listen on 127.0.0.1")
    return ServerSettings(
        keys=keys, deadline=deadline, fetch_hosts=[name.strip().lower() for name in fetch_hosts]
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
