"""The options of `openferret eval`, declared once and by the data that they name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

_DATA, _ASKING, _JUDGE = "Data", "Asking", "Judge"


def _file(text: str) -> typer.models.OptionInfo:
    info: typer.models.OptionInfo = typer.Option(metavar="FILE", help=text, rich_help_panel=_DATA)
    return info


def _folder(text: str) -> typer.models.OptionInfo:
    info: typer.models.OptionInfo = typer.Option(metavar="DIR", help=text, rich_help_panel=_DATA)
    return info


Images = Annotated[Path, _folder("Folder of the pictures.")]
Annotations = Annotated[Path | None, _file("COCO instances or LVIS annotations.")]
Only = Annotated[Path | None, _file("Picture ids or file names to keep to, one a line.")]
Seed = Annotated[int, typer.Option(min=0, help="Of what is drawn by chance.", rich_help_panel=_DATA)]
Files = Annotated[list[Path], _file("JSON lines; repeat it, in the same order for each kind of file.")]


@dataclass(frozen=True)
class Entities:
    """Flickr30k Entities."""

    root: Annotated[Path, _folder("Folder that holds Annotations/ and Sentences/.")]
    images: Images
    split_file: Annotated[Path, _file("Picture names of the split, as val.txt.")]


@dataclass(frozen=True)
class EntitiesByRule(Entities):
    """Flickr30k Entities, asked by one rule or both."""

    rules: Annotated[str, typer.Option(help="official, strict or both.", rich_help_panel=_DATA)] = "both"


@dataclass(frozen=True)
class Captions(Entities):
    """Flickr30k Entities, for captions."""

    java: Annotated[
        bool,
        typer.Option(
            "--java",
            help="coco-caption's tokens, METEOR and SPICE: needs java, pycocoevalcap.",
            rich_help_panel=_DATA,
        ),
    ] = False
    frequent_in: Annotated[
        Path | None, _file("Another split, as train.txt: F1 also over its 480 most frequent nouns.")
    ] = None


@dataclass(frozen=True)
class Absent(Entities):
    """Flickr30k Entities with phrases of other pictures."""

    each: Annotated[
        int, typer.Option(min=1, help="Phrases there, and not, of a picture.", rich_help_panel=_DATA)
    ] = 4
    seed: Seed = 0


@dataclass(frozen=True)
class Refer:
    """Two choices about a region."""

    images: Images
    annotations: Annotations = None
    questions: Annotated[Path | None, _file("A set in Ferret's layout instead.")] = None
    negatives: Annotated[str, typer.Option(help="random or hard.", rich_help_panel=_DATA)] = "random"
    only: Only = None
    objects: Annotated[
        int | None, typer.Option(min=1, help="Take as many objects by chance.", rich_help_panel=_DATA)
    ] = None
    seed: Seed = 0


@dataclass(frozen=True)
class Classes:
    """Where each class is."""

    images: Images
    annotations: Annotated[Path, _file("COCO instances, or a file of their layout.")]
    only: Only = None
    absent: Annotated[
        int, typer.Option(min=0, help="Classes asked that are not there.", rich_help_panel=_DATA)
    ] = 2
    seed: Seed = 0


@dataclass(frozen=True)
class Names:
    """What each box is."""

    images: Images
    annotations: Annotated[Path, _file("COCO instances, or a file of their layout.")]
    only: Only = None
    each: Annotated[int, typer.Option(min=1, help="Boxes of a class and picture.", rich_help_panel=_DATA)] = 3


@dataclass(frozen=True)
class Expressions:
    """Referring expressions."""

    images: Images
    annotations: Annotated[Path | None, _file("MDETR's finetune_refcoco*_SPLIT.json.")] = None
    refs: Annotated[Path | None, _file("The original refs(*).p; with --instances and --split.")] = None
    instances: Annotated[Path | None, _file("instances.json that goes with it.")] = None
    split: Annotated[
        str | None, typer.Option(help="Of --refs: val, testA, testB, test.", rich_help_panel=_DATA)
    ] = None


@dataclass(frozen=True)
class Pope:
    """Is there a ...?"""

    images: Images
    questions: Annotated[list[Path] | None, _file("coco_pope_*.json; repeat it for several sets.")] = None
    annotations: Annotations = None
    only: Only = None
    seed: Seed = 0


@dataclass(frozen=True)
class Chair:
    """Captions of COCO pictures."""

    images: Images
    annotations: Annotated[Path, _file("COCO instances.")]
    captions: Annotated[Path | None, _file("COCO captions of the same pictures.")] = None
    synonyms: Annotated[Path | None, _file("CHAIR's synonyms.txt instead of our list.")] = None
    only: Only = None


@dataclass(frozen=True)
class Bench:
    """Open questions with reference answers."""

    images: Images
    questions: Files
    answers: Files
    context: Annotated[list[Path] | None, _file("What the judge is told of the pictures; repeat it.")] = None
    rules: Annotated[Path | None, _file("The judge's prompts, as rule.json.")] = None
    judge_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="OpenAI-compatible, as http://host/v1.", rich_help_panel=_JUDGE),
    ] = None
    judge_model: Annotated[str | None, typer.Option(metavar="NAME", rich_help_panel=_JUDGE)] = None
    judge_key_env: Annotated[
        str | None, typer.Option(metavar="VAR", help="Variable that holds the key.", rich_help_panel=_JUDGE)
    ] = None
    judge_cache: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keeps what was said.", rich_help_panel=_JUDGE)
    ] = None


@dataclass(frozen=True)
class Candidate:
    """Who is asked, and how much."""

    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write to.", rich_help_panel=_ASKING)]
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="kit, a model folder, or hf:FOLDER: Kosmos-2, Florence-2, Qwen2.5-VL, Qwen3-VL.",
            rich_help_panel=_ASKING,
        ),
    ] = "kit"
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 or mps.", rich_help_panel=_ASKING)] = "cpu"
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="auto, fast or reference, for kit and folders.", rich_help_panel=_ASKING
        ),
    ] = None
    drafts: Annotated[
        int,
        typer.Option(min=1, max=32, help="Of a description, for kit and folders.", rich_help_panel=_ASKING),
    ] = 1
    model_seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Of the sampled points.", rich_help_panel=_ASKING)
    ] = 0
    endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="An OpenAI-compatible server instead; --model is its name for it.",
            rich_help_panel=_ASKING,
        ),
    ] = None
    endpoint_key_env: Annotated[
        str | None, typer.Option(metavar="VAR", help="Variable that holds its key.", rich_help_panel=_ASKING)
    ] = None
    dialect: Annotated[
        str,
        typer.Option(
            help="How the server's model writes boxes: ferret, qwen, qwen2.5, kosmos, florence.",
            rich_help_panel=_ASKING,
        ),
    ] = "ferret"
    batch: Annotated[
        int, typer.Option(min=1, help="Questions about one picture at once.", rich_help_panel=_ASKING)
    ] = 16
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many pictures.", rich_help_panel=_ASKING)
    ] = None
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what is in --out.", rich_help_panel=_ASKING)
    ] = False
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing", help="Go on without pictures that are missing.", rich_help_panel=_ASKING
        ),
    ] = False


@dataclass(frozen=True)
class Scoring:
    """Scoring without a model."""

    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write results.json and gallery.json there.")
    ] = None
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many pictures.")] = None
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Another run's predictions of the same questions: what PREDICTIONS gain over them, paired.",
        ),
    ] = None


DATA_OF: dict[str, type] = {
    "lvis-refer": Refer,
    "refexp": Expressions,
    "flickr30k-entities": EntitiesByRule,
    "ground-classes": Classes,
    "grounded-caption": Captions,
    "pope": Pope,
    "name-classes": Names,
    "refer-caption": Entities,
    "calibration": Entities,
    "absent": Absent,
    "chair": Chair,
    "ferret-bench": Bench,
    "llava-bench": Bench,
}
