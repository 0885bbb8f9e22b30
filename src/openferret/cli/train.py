"""`openferret train RECIPE`: the training loop; `openferret train kit`: the embedded model, trained again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup


class RecipeOrCommand(TyperGroup):
    """A group whose first word may be a recipe: whatever is no command of its own is given to `recipe`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command's name before a recipe."""
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["recipe", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=RecipeOrCommand,
    no_args_is_help=True,
    help="Train a model from a recipe: `openferret train RECIPE.yaml`.",
    rich_markup_mode="markdown",
)


@app.callback(
    epilog="Recipes that ship: finetune, kit.yaml, ferret-7b, ferret-13b (docs/training-your-own.md)."
)
def _train() -> None:
    """Train a model from a recipe: `openferret train RECIPE.yaml [--set a.b=c] [--resume]`."""


@app.command()
def recipe(
    name: Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or a recipe that ships.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="Change the recipe, as in batch.micro=2."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    processes: Annotated[
        int,
        typer.Option(
            min=1, help="Start so many processes on this machine; torchrun and accelerate do so too."
        ),
    ] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the recipe, print it in full, and stop.")
    ] = False,
) -> None:
    """Train a model; stopped or killed at any moment, `--resume` goes on as if nothing had been.

    The result is OUT/model, a folder that every verb takes as --model.
    """
    from openferret.train.recipes.reading import load_recipe, to_yaml

    loaded = load_recipe(name, settings or ())
    if dry_run:
        typer.echo(to_yaml(loaded), nl=False)
        return
    if processes > 1:
        from openferret.train.processes.launching import launch

        launch(
            processes, [name, *(f"--set={one}" for one in settings or ()), *(["--resume"] if resume else [])]
        )
        return
    from openferret.train.monitoring.choosing import callbacks_for
    from openferret.train.processes.launching import leave_job
    from openferret.train.running.loop import run_training

    result = run_training(loaded, callbacks_for(loaded), resume=resume)
    if result.main:
        typer.echo(result.folder)
    leave_job()


@app.command()
def kit(
    data: Annotated[
        Path, typer.Option(help="Flickr30k Entities: Annotations/, Sentences/, flickr30k-images/, train.txt.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for states, logs and the adapter.")],
    trunk_minutes: Annotated[float, typer.Option(help="Of the vision side's training.")] = 120,
    language_minutes: Annotated[float, typer.Option(help="Of the language model's.")] = 90,
    start: Annotated[Path | None, typer.Option(help="An adapter.safetensors to go on from.")] = None,
    build: Annotated[
        Path | None,
        typer.Option(
            help="A data set of `openferret data build`, whose dialogues the language model learns too."
        ),
    ] = None,
    closer_minutes: Annotated[float, typer.Option(help="Of the closer look at regions.")] = 26,
    reward_minutes: Annotated[
        float, typer.Option(help="Of the rewards for whole descriptions, for an accelerator; 0: none.")
    ] = 0,
    detected: Annotated[
        Path | None,
        typer.Option(
            help="What a detector saw on the train pictures (see docs/training.md), to learn from too."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1")] = "cpu",
    workers: Annotated[
        int, typer.Option(help="Processes that make batches in advance, for an accelerator.")
    ] = 0,
) -> None:
    """Train Kit from SmolLM2, EfficientNet-Lite2 and Flickr30k Entities (and COCO, if it is there).

    Stopped at any moment, the same command goes on. The result is OUT/adapter.safetensors.
    """
    from openferret.train.kit import kit_stages, run_stages

    minutes = (trunk_minutes, language_minutes)
    stages = kit_stages(
        *(data, out, *minutes, start, build, closer_minutes, detected, device, workers, reward_minutes)
    )
    run_stages(stages, out, lambda text: typer.echo(text, err=True))
    typer.echo(out / "adapter.safetensors")
