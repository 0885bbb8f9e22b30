"""`openferret serve`: the page and the HTTP API."""

from __future__ import annotations

import ipaddress
import re
import socket
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openferret.errors import InputError

if TYPE_CHECKING:
    from openferret.serve.app import ServerSettings
    from openferret.serve.jobs import Backend

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
    picture_folder: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Label Studio's tasks may name files in this folder; repeatable."),
    ] = None,
    cache_megabytes: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="Memory for pictures that have been read.")
    ] = 1000,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="ray: replicas on a Ray cluster. In this process: fast, reference or auto, as for every verb.",
        ),
    ] = None,
    replicas: Annotated[
        str, typer.Option(metavar="N|MIN-MAX", help="Of --engine ray; a range follows the load.")
    ] = "1",
    replica_cpus: Annotated[
        float, typer.Option(min=0.1, max=1024, help="CPUs, and threads, of a replica of --engine ray.")
    ] = 1.0,
) -> None:
    """Serve the page and an OpenAI-compatible API until stopped."""
    settings = _settings(host, api_key_file, deadline, allow_image_host or [], picture_folder or [])
    from openferret.cli.options import Settings
    from openferret.cli.session import check_settings, load_model

    on_ray = engine == "ray"
    chosen = Settings(model=model, device=device, engine=None if on_ray else engine)
    check_settings(chosen)
    least, most = _read_replicas(replicas)
    if most > 1 and not on_ray:
        raise InputError("--replicas belongs to --engine ray: one process holds one model")
    _check_free(host, port)  # before a model is loaded
    from openferret.serve.engine import Engine, EngineSettings
    from openferret.serve.running import run_server

    held = EngineSettings(cache_bytes=cache_megabytes * 1_000_000)
    backend: Backend
    if on_ray:
        from openferret.loading import load_model as load
        from openferret.serve.replicas import RayReplicas, ReplicaSettings

        gpus = 1.0 if device.startswith("cuda") else 0.0
        each = ReplicaSettings(least, most, replica_cpus, gpus, engine=held)
        place = model if model == "kit" else str(Path(model).resolve())
        backend = RayReplicas(Path(place).name, partial(load, place, device), each)
    else:
        backend = Engine(load_model(chosen).loaded, held)
    run_server(backend, settings, host, port, _DRAIN_SECONDS)


def _read_replicas(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d{0,3})(?:-([1-9]\d{0,3}))?", text)
    least, most = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if least > most:
        raise InputError(f"--replicas is a number or a range such as 1-4, not {text!r}")
    return least, most


def _settings(
    host: str, key_file: Path | None, deadline: float, fetch_hosts: list[str], folders: list[Path]
) -> ServerSettings:
    try:
        from openferret.serve.app import LOCAL_HOSTS, ServerSettings
        from openferret.serve.auth import read_keys
        from openferret.serve.folders import AllowedFolders
    except ModuleNotFoundError as error:
        raise InputError(
            f"serving needs {error.name}, which is not installed: pip install 'openferret[serve]'"
        ) from error
    keys = () if key_file is None else read_keys(key_file)
    if not keys and not _is_loopback(host):
        raise InputError(f"{host} can be reached by others: give --api-key-file, or listen on 127.0.0.1")
    return ServerSettings(
        keys=keys,
        hosts=(*LOCAL_HOSTS, f"[{host}]" if ":" in host else host),
        deadline=deadline,
        fetch_hosts=[name.strip().lower() for name in fetch_hosts],
        picture_folders=AllowedFolders.of(folders).folders,
    )


def _check_free(host: str, port: int) -> None:
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as probe:
                if sys.platform != "win32":  # as the server will: what has just ended does not count
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except (OSError, UnicodeError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise InputError(
            f"port {port} of {host} cannot be listened on ({reason}): give another --port or --host"
        ) from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
