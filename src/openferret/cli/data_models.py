"""`openferret data dialogues` and `data pseudo-ground`: what models add to the records of a source."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openferret.checks import finite_number
from openferret.cli.commands import with_options
from openferret.cli.terminal import printable
from openferret.errors import InputError

if TYPE_CHECKING:
    from openferret.data.assisted.dialogues import Assistant
    from openferret.data.building.recipe import Recipe
    from openferret.data.endpoints.calling import Caller
    from openferret.data.endpoints.spending import Ledger, Prices
    from openferret.data.files.kept import Kept
    from openferret.data.pseudo_grounding.detectors import Detector
    from openferret.data.records import Record

_SAMPLES = "samples.parquet"
_RECORDS, _SERVER, _SPENDING, _FINDING = "Records", "Servers", "Spending", "Finding"
_Recipe = Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or a recipe that ships.")]


@dataclass(frozen=True)
class Wanted:
    """Which records, and where what becomes of them goes."""

    source: Annotated[
        str, typer.Option(metavar="NAME", help="The source of the recipe to take.", rich_help_panel=_RECORDS)
    ]
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Of the run; an old one is gone on with.", rich_help_panel=_RECORDS),
    ]
    path: Annotated[
        list[str] | None,
        typer.Option(
            "--path", metavar="NAME=DIR", help="Stands for ${NAME} in the recipe.", rich_help_panel=_RECORDS
        ),
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="A.B=C", help="Change the recipe, as in seed=1.", rich_help_panel=_RECORDS
        ),
    ] = None
    limit: Annotated[
        int | None, typer.Option(min=1, help="Take the first so many records.", rich_help_panel=_RECORDS)
    ] = None
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what it would take, and do nothing.", rich_help_panel=_RECORDS),
    ] = False
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.", rich_help_panel=_RECORDS)] = False


@dataclass(frozen=True)
class Server:
    """Who is asked."""

    url: Annotated[
        str,
        typer.Option(metavar="URL", help="OpenAI-compatible, as http://host/v1.", rich_help_panel=_SERVER),
    ]
    model: Annotated[str, typer.Option(metavar="NAME", help="Its name there.", rich_help_panel=_SERVER)]
    key_env: Annotated[
        str | None, typer.Option(metavar="VAR", help="Variable that holds the key.", rich_help_panel=_SERVER)
    ] = None
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds for one request.", rich_help_panel=_SERVER)
    ] = 120.0
    workers: Annotated[
        int, typer.Option(min=1, max=256, help="Asked at a time.", rich_help_panel=_SERVER)
    ] = 8


@dataclass(frozen=True)
class Servers(Server):
    """Who writes and who refines."""

    refiner_model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Refines; without it dialogues stay as written.", rich_help_panel=_SERVER
        ),
    ] = None
    refiner_url: Annotated[
        str | None, typer.Option(metavar="URL", help="If it is another server.", rich_help_panel=_SERVER)
    ] = None
    refiner_key_env: Annotated[
        str | None, typer.Option(metavar="VAR", help="If it has another key.", rich_help_panel=_SERVER)
    ] = None
    prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Instead of those that ship.", rich_help_panel=_SERVER)
    ] = None


@dataclass(frozen=True)
class Spending:
    """What may be spent."""

    price: Annotated[
        str,
        typer.Option(
            metavar="PROMPT,COMPLETION", help="For a million tokens of the writer.", rich_help_panel=_SPENDING
        ),
    ] = "0,0"
    budget: Annotated[
        float | None,
        typer.Option(min=0, help="Most to spend, in the prices' currency.", rich_help_panel=_SPENDING),
    ] = None
    requests: Annotated[int | None, typer.Option(min=1, help="Most requests.", rich_help_panel=_SPENDING)] = (
        None
    )
    per_minute: Annotated[
        float | None, typer.Option(min=0.01, help="Most requests a minute.", rich_help_panel=_SPENDING)
    ] = None


@dataclass(frozen=True)
class Spendings(Spending):
    """The same with another price for the refiner."""

    refiner_price: Annotated[
        str | None,
        typer.Option(
            metavar="PROMPT,COMPLETION", help="If the refiner's differs.", rich_help_panel=_SPENDING
        ),
    ] = None


@dataclass(frozen=True)
class Finding:
    """Who finds phrases, and how sure it must be."""

    detector: Annotated[
        str, typer.Option(help="ferret, grounding-dino or owl.", rich_help_panel=_FINDING)
    ] = "ferret"
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="kit, or a name or folder of transformers.", rich_help_panel=_FINDING
        ),
    ] = None
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 or mps.", rich_help_panel=_FINDING)] = "cpu"
    score: Annotated[float, typer.Option(help="Least, 0 to 1.", rich_help_panel=_FINDING)] = 0.35
    overlap: Annotated[
        float, typer.Option(help="Of two boxes of a phrase, at most, 0 to 1.", rich_help_panel=_FINDING)
    ] = 0.5
    most: Annotated[
        int, typer.Option(help="Boxes of a phrase that means several.", rich_help_panel=_FINDING)
    ] = 8
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="Pictures opened ahead.", rich_help_panel=_FINDING)
    ] = 2


@with_options
def dialogues(recipe: _Recipe, wanted: Wanted, servers: Servers, spending: Spendings) -> None:
    """Have a language model write dialogues about the pictures of a source, and check them (GRIT's assisted part).

    Exit status 3: some had no reply, or the budget is spent; run the same again, and it goes on.
    """
    from openferret.data.assisted.dialogues import Summary, estimate_run, read_dialogues, write_dialogues
    from openferret.data.endpoints.spending import Ledger
    from openferret.data.storage.parquet import write_samples

    loaded, ledger = _load(recipe, wanted), Ledger(spending.budget, spending.requests)
    assistant = _assistant(servers, spending, ledger, loaded.seed, wanted)
    if wanted.dry_run:
        with _records(loaded, wanted) as records:
            found = estimate_run(records, assistant, wanted.out)
        typer.echo(f"dialogues\t{found.dialogues}\nrequests\t{found.requests}")
        typer.echo(f"prompt tokens\t{found.prompt_tokens} (at four characters a token)")
        typer.echo(f"completion tokens\t{found.completion_tokens} (assumed)\ncost\t{found.cost:.4f}")
        return
    with _counting(wanted.quiet) as show, _records(loaded, wanted) as records:

        def told(summary: Summary) -> None:
            rejected = summary.rejected.total()
            show(
                f"accepted {summary.accepted}  rejected {rejected}  failed {summary.failed}  cost {ledger.cost:.4f}"
            )

        summary = write_dialogues(records, wanted.out, assistant, servers.workers, told)
    number = write_samples(wanted.out / _SAMPLES, read_dialogues(wanted.out))
    for kind, times in summary.rejected.most_common():
        typer.echo(f"rejected for its {kind}: {times}", err=True)
    typer.echo(
        f"{summary.accepted} accepted, {summary.rejected.total()} rejected, {summary.failed} without a reply, "
        f"{summary.skipped} pictures tell too little, {summary.known} done before; {ledger.requests} requests, "
        f"{ledger.prompt_tokens} + {ledger.completion_tokens} tokens, cost {ledger.cost:.4f}; {number} samples in all",
        err=True,
    )
    typer.echo(wanted.out / _SAMPLES)
    if summary.ended:
        typer.echo(printable(f"ended early: {summary.ended}; run the same again, and it goes on"), err=True)
    if summary.ended or summary.failed:
        raise typer.Exit(3)


@with_options
def analogies(recipe: _Recipe, wanted: Wanted, server: Server, spending: Spending) -> None:
    """Have a language model name what might be there instead (man: woman, two: three), for questions about absence.

    DIR gets analogies.jsonl, which a recipe reads as `analogies: FILE`. Exit status 3: some had no usable reply.
    """
    from openferret.data.building.writing import load_settings
    from openferret.data.endpoints.spending import Ledger
    from openferret.data.negatives.endpoint_analogies import MOST_TOKENS, estimated_tokens
    from openferret.data.negatives.kept_analogies import Summary, ask_all, wanted_phrases

    loaded, ledger = _load(recipe, wanted), Ledger(spending.budget, spending.requests)
    caller = _caller(server, spending, ledger, None)
    settings = load_settings(loaded.seed, loaded.negatives, loaded.templates)
    if wanted.dry_run:
        with _records(loaded, wanted) as records:
            tokens = [estimated_tokens(phrase) for phrase in wanted_phrases(records, settings)]
        cost = sum(caller.prices.cost(one, MOST_TOKENS) for one in tokens)
        typer.echo(f"phrases\t{len(tokens)}\nprompt tokens\t{sum(tokens)} (at four characters a token)")
        typer.echo(f"completion tokens\t{len(tokens) * MOST_TOKENS} (at most)\ncost\t{cost:.4f}")
        return
    file = wanted.out / "analogies.jsonl"
    with _counting(wanted.quiet) as show, _records(loaded, wanted) as records:

        def told(summary: Summary) -> None:
            show(f"named {summary.named}  failed {summary.failed}  cost {ledger.cost:.4f}")

        summary = ask_all(wanted_phrases(records, settings), file, caller, server.workers, told)
    typer.echo(
        f"{summary.named} phrases, {summary.failed} without a usable reply, {summary.known} done before; "
        f"{ledger.requests} requests, cost {ledger.cost:.4f}",
        err=True,
    )
    typer.echo(file)
    if summary.ended:
        typer.echo(printable(f"ended early: {summary.ended}; run the same again, and it goes on"), err=True)
    if summary.ended or summary.failed:
        raise typer.Exit(3)


@with_options
def pseudo_ground(recipe: _Recipe, wanted: Wanted, finding: Finding) -> None:
    """Put boxes after the nouns of a source's dialogues, where a detector finds them (GRIT's grounded LLaVA).

    Exit status 3: the pictures of some could not be used.
    """
    from openferret.data.pseudo_grounding.grounding import Grounding
    from openferret.data.pseudo_grounding.run import Summary, estimate_run, ground_records, read_grounded
    from openferret.data.storage.parquet import write_samples

    how = Grounding(finding.score, finding.overlap, finding.most)
    loaded = _load(recipe, wanted)
    pictures = next(one.picture_folder for one in loaded.sources if one.name == wanted.source)
    detector = _detector(finding)
    if wanted.dry_run:
        with _records(loaded, wanted) as records:
            found = estimate_run(records, pictures, wanted.out, detector, how)
        typer.echo(f"dialogues\t{found.dialogues}\nphrases\t{found.phrases}")
        seconds = "unknown" if found.seconds is None else f"{found.seconds:.0f} (after the first few)"
        typer.echo(f"seconds of {finding.detector} on {finding.device}\t{seconds}")
        return
    with _counting(wanted.quiet) as show, _records(loaded, wanted) as records:

        def told(summary: Summary) -> None:
            show(f"grounded {summary.grounded}  nothing found {summary.empty}  failed {summary.failed}")

        summary = ground_records(records, pictures, wanted.out, detector, how, finding.workers, told)
    number = write_samples(wanted.out / _SAMPLES, read_grounded(wanted.out))
    typer.echo(
        f"{summary.grounded} grounded, {summary.empty} in which nothing was found, {summary.failed} failed, "
        f"{summary.known} done before; {number} samples in all",
        err=True,
    )
    typer.echo(wanted.out / _SAMPLES)
    if summary.failed:
        raise typer.Exit(3)


def _load(recipe: str, wanted: Wanted) -> Recipe:
    from openferret.data.building.recipe import load_recipe, path_variables

    loaded = load_recipe(recipe, wanted.settings or (), path_variables(wanted.path or ()))
    if wanted.source not in {one.name for one in loaded.sources}:
        raise InputError(
            f"the recipe has no source {wanted.source!r}; it has {', '.join(one.name for one in loaded.sources)}"
        )
    return loaded


@contextmanager
def _records(recipe: Recipe, wanted: Wanted) -> Iterator[Iterator[Record]]:
    """The records, whose log of problems is closed at the end even where a spent budget leaves some unread."""
    from openferret.data.building.gate import usable_records

    log = Path(os.devnull) if wanted.dry_run else wanted.out / "problems.jsonl"
    with closing(usable_records(recipe, wanted.source, log)) as records:
        yield islice(records, wanted.limit)


def _assistant(servers: Servers, spending: Spendings, ledger: Ledger, seed: int, wanted: Wanted) -> Assistant:
    from openferret.data.assisted.dialogues import Assistant
    from openferret.data.assisted.prompts import load_prompts
    from openferret.data.files.kept import Kept
    from openferret.eval.transport import key_from

    if servers.refiner_model is None and (servers.refiner_url or spending.refiner_price):
        raise InputError("a refiner needs --refiner-model")
    cache = None if wanted.dry_run else Kept(wanted.out / "cache.jsonl", "request")
    writer = _caller(servers, spending, ledger, cache)
    refiner = None
    if servers.refiner_model is not None:
        # A key is for one server: it is not sent to another address unasked.
        shared = writer.server.key if servers.refiner_url in (None, servers.url) else None
        server = replace(
            writer.server,
            url=servers.refiner_url or servers.url,
            model=servers.refiner_model,
            key=key_from(servers.refiner_key_env) or shared,
        )
        price = spending.refiner_price
        prices = writer.prices if price is None else _prices(price, "--refiner-price")
        refiner = replace(writer, server=server, prices=prices)
    return Assistant(writer, refiner, load_prompts(servers.prompts), seed)


def _caller(server: Server, spending: Spending, ledger: Ledger, cache: Kept | None) -> Caller:
    from openferret.data.endpoints.calling import Caller
    from openferret.data.endpoints.spending import Pace
    from openferret.eval.transport import ChatServer, key_from

    finite_number(server.timeout, "--timeout")
    asked = ChatServer(server.url, server.model, key_from(server.key_env), server.timeout)
    prices = _prices(spending.price, "--price")
    return Caller(asked, ledger, prices, Pace(spending.per_minute), cache)


def _prices(text: str, option: str) -> Prices:
    from openferret.data.endpoints.spending import Prices

    try:
        prompt, completion = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{option} must be two numbers, as 0.5,1.5, not {text!r}") from None
    return Prices(prompt, completion)


def _detector(finding: Finding) -> Detector:
    from openferret.data.pseudo_grounding import detectors

    kinds: dict[str, Callable[[], Any]] = {
        "ferret": lambda: detectors.FerretDetector.load(finding.model or "kit", finding.device),
        "grounding-dino": lambda: detectors.GroundingDino(_model(finding), finding.device),
        "owl": lambda: detectors.Owl(_model(finding), finding.device),
    }
    if finding.detector not in kinds:
        raise InputError(f"--detector must be one of {', '.join(kinds)}, not {finding.detector!r}")
    detector: Detector = kinds[finding.detector]()
    return detector


def _model(finding: Finding) -> str:
    if finding.model is None:
        raise InputError(f"--detector {finding.detector} needs --model: a name or a folder of transformers")
    return finding.model


@contextmanager
def _counting(quiet: bool) -> Iterator[Callable[[str], None]]:
    """One line that tells how far it is."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda text: None
        return
    with console.status("starting") as status:
        yield lambda text: status.update(text)
