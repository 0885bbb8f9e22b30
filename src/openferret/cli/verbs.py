"""The verbs, as they are typed."""

from __future__ import annotations

from typing import Annotated

import typer

from openferret.cli.commands import with_options
from openferret.cli.options import Pointing, Settings
from openferret.errors import InputError

Images = Annotated[list[str], typer.Argument(metavar="IMAGE", help="Pictures, or folders of pictures.")]
MoreImages = Annotated[
    list[str] | None,
    typer.Option(
        "--images",
        metavar="PATH",
        help="Pictures or folders (repeat it); then every other word is text, and none a picture.",
    ),
]
Threshold = Annotated[
    float | None, typer.Option(metavar="0..1", help="Keep boxes of at least this score.", show_default=False)
]


@with_options
def refer(
    ctx: typer.Context,
    images: Images,
    pointing: Pointing,
    settings: Settings,
    ask: Annotated[str | None, typer.Option(metavar="TEXT", help="A question about the region.")] = None,
) -> None:
    """Say what is at a point, box, scribble, polygon or mask.

    openferret refer cat.jpg --box 10,20,200,220 --ask "what is it doing?"
    """
    from openferret.cli import inputs, jobs

    regions = inputs.read_regions(ctx.obj)
    if not regions:
        raise InputError("refer needs a region: give --point, --box, --scribble, --polygon or --mask")
    if ask is not None:
        inputs.check_text(ask, "question")
        inputs.check_references(ask, 1, "refer asks about one region at a time; `ask` takes several")
    jobs.run(images, jobs.refer(regions, ask, settings), settings)


@with_options
def ground(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE PHRASE...",
            help="A picture or folder, then what to look for, each in quotes of its own.",
        ),
    ],
    settings: Settings,
    images: MoreImages = None,
    merge: Annotated[bool, typer.Option("--merge", help="One box round all that a phrase names.")] = False,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="0..1",
            help="Say that a phrase less probable than this is not in the picture; its boxes' own scores may be lower.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Find what phrases name, or say that it is not in the picture.

    openferret ground cat.jpg "a black cat" "a sofa" --draw found.png

    For several pictures: openferret ground --images a.jpg --images holidays/ "a dog"
    """
    from openferret.cli import inputs, jobs

    pictures, phrases = inputs.split_words("ground", words, images, "phrase")
    for phrase in phrases:
        inputs.check_references(phrase, 0, "ground looks for words; `refer` and `ask` take regions")
    inputs.check_threshold(threshold)
    jobs.run(pictures, jobs.ground(phrases, merge, threshold, settings), settings)


@with_options
def describe(
    images: Images,
    settings: Settings,
    drafts: Annotated[
        int,
        typer.Option(
            min=1,
            max=32,
            help="Write so many and give the best: nine tell more of what is there, and take some six times as long.",
        ),
    ] = 1,
) -> None:
    """Describe a picture in words that know their places."""
    from openferret.cli import jobs

    jobs.run(images, jobs.describe(settings, drafts), settings)


@with_options
def detect(images: Images, settings: Settings, threshold: Threshold = None) -> None:
    """Name and box everything that can be named."""
    from openferret.cli import inputs, jobs

    inputs.check_threshold(threshold)
    jobs.run(images, jobs.detect(threshold, settings), settings)


@with_options
def ask(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGE QUESTION", help="A picture or folder, then one question in quotes."),
    ],
    pointing: Pointing,
    settings: Settings,
    images: MoreImages = None,
) -> None:
    """Ask about a picture; [0] and [1] are the regions in the order typed.

    openferret ask cat.jpg "is [0] older than [1]?" --box 1,2,30,40 --point 50,60
    """
    from openferret.cli import inputs, jobs

    pictures, questions = inputs.split_words("ask", words, images, "question")
    if len(questions) > 1:
        raise InputError("ask takes one question: put it in quotes")
    regions = inputs.read_regions(ctx.obj)
    inputs.check_references(questions[0], len(regions), "point at it with --point, --box, ...")
    jobs.run(pictures, jobs.ask(questions[0], regions, settings), settings)


@with_options
def chat(image: Annotated[str, typer.Argument(metavar="IMAGE")], settings: Settings) -> None:
    """Talk about a picture, line by line; 'quit' or the end of input ends it.

    Point by typing [point 10,20], [box 10,20,200,220], [scribble 1,2 3,4] or [polygon 1,2 3,4 5,6] in a
    line; later lines may call them [0], [1], ... in the order typed.
    """
    from openferret.cli import chat as conversation

    conversation.run(image, settings)
