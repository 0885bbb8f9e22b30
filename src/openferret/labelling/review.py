"""What a person looks at before trusting labels: the most doubtful pictures first, on sheets and on a page."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from PIL import Image

from openferret.errors import InputError
from openferret.labelling.colours import colour_of
from openferret.labelling.job import LabelledPicture
from openferret.labelling.sheet import Cell, Legend, draw_sheet
from openferret.labelling.sources import Source, open_source
from openferret.labelling.writers import write_whole

SHEET_COLUMNS, SHEET_ROWS = 5, 4
_DOUBTFUL = 0.1  # the share of boxes, lowest scores first, that is marked
_PAGE_SIDE = 480  # pixels of the longer side of a picture on the page


@dataclass(frozen=True)
class ClassCount:
    """How often a class was found.

    Args:
        name: of the class.
        pictures: that hold at least one.
        boxes: in all pictures.
        lowest: score of any of its boxes; None without scores.
        median: score of its boxes; None without scores.
    """

    name: str
    pictures: int
    boxes: int
    lowest: float | None
    median: float | None


def count_classes(names: Sequence[str], labelled: Sequence[LabelledPicture]) -> list[ClassCount]:
    """Counts for each name, in order, those never found too."""
    return [_count(name, [one.answer.mentions[n].boxes for one in labelled]) for n, name in enumerate(names)]


def _count(name: str, found: Sequence[Sequence[object]]) -> ClassCount:
    scores = sorted(
        score for boxes in found for box in boxes if (score := getattr(box, "score", None)) is not None
    )
    pictures, boxes = sum(bool(one) for one in found), sum(len(one) for one in found)
    lowest, median = (scores[0], scores[len(scores) // 2]) if scores else (None, None)
    return ClassCount(name, pictures, boxes, lowest, median)


def doubtful_below(labelled: Sequence[LabelledPicture]) -> float:
    """The score of the best of the worst tenth of all boxes; boxes up to it are marked. 0 without scores."""
    scores = sorted(score for one in labelled for score in one.scores)
    return scores[max(0, round(len(scores) * _DOUBTFUL) - 1)] if scores else 0.0


def most_doubtful(labelled: Sequence[LabelledPicture], most: int) -> list[LabelledPicture]:
    """The pictures to look at first: lowest score first; then those without a score, where much may be missing."""
    return sorted(labelled, key=lambda one: min(one.scores, default=2.0))[:most]


def write_review(
    folder: Path, names: Sequence[str], labelled: Sequence[LabelledPicture], most: int
) -> list[Path]:
    """Write contact sheets (PNG) and a page that needs no other file or network (HTML).

    Args:
        folder: written anew; what it held of an earlier review is gone.
        names: of the classes.
        labelled: all pictures; counts are of all of them.
        most: pictures to show, the most doubtful first.

    Returns:
        The page, then the sheets.

    Raises:
        InputError: the folder cannot be written.
    """
    shown = most_doubtful(labelled, most)
    limit = doubtful_below(labelled)
    counts = count_classes(names, labelled)
    try:
        if folder.is_dir():
            shutil.rmtree(folder)
        folder.mkdir()
        cards: list[dict[str, object]] = []
        sheets = list(_write_sheets(folder, shown, counts, limit, len(labelled), cards))
        page = folder / "index.html"
        write_whole(page, _page(counts, cards, limit, len(labelled)).encode())
    except OSError as error:
        raise InputError(
            f"the review cannot be written to {str(folder)!r}: {error.strerror or error}"
        ) from error
    return [page, *sheets]


def _write_sheets(
    folder: Path,
    shown: Sequence[LabelledPicture],
    counts: Sequence[ClassCount],
    limit: float,
    total: int,
    cards: list[dict[str, object]],
) -> Iterator[Path]:
    """Sheet after sheet; each picture is read once, and its card for the page is made on the way."""
    legend = [Legend(f"{one.name} {one.boxes}", colour_of(n)) for n, one in enumerate(counts)]
    room = SHEET_COLUMNS * SHEET_ROWS
    pages = -(-len(shown) // room)
    for number in range(pages):
        cells = []
        for one in shown[number * room : (number + 1) * room]:
            picture = _small(one.source)
            cells.append(Cell(picture, one.name, one.answer, limit))
            if picture is not None:
                cards.append(_card(one, picture))
        title = f"Sheet {number + 1} of {pages}: {len(shown)} of {total} pictures, the most doubtful first"
        sheet = draw_sheet(cells, legend, title, SHEET_COLUMNS)
        target = folder / f"sheet-{number + 1:03d}.png"
        sheet.save(target)
        yield target


def _small(source: Source) -> Image.Image | None:
    try:
        picture = open_source(source)
    except InputError:
        return None  # it was labelled, and has been moved or damaged since
    picture.thumbnail((_PAGE_SIDE, _PAGE_SIDE))
    return picture


def _card(one: LabelledPicture, picture: Image.Image) -> dict[str, object]:
    coded = io.BytesIO()
    picture.save(coded, "JPEG", quality=80)
    return {
        "name": one.name,
        "width": one.answer.width,
        "height": one.answer.height,
        "picture": "data:image/jpeg;base64," + base64.b64encode(coded.getvalue()).decode(),
        "boxes": [
            {"class": n, "box": [round(value, 5) for value in box.normalized], "score": box.score}
            for n, mention in enumerate(one.answer.mentions)
            for box in mention.boxes
        ],
    }


def _page(counts: Sequence[ClassCount], cards: Iterable[dict[str, object]], limit: float, total: int) -> str:
    classes = [
        {"name": one.name, "colour": colour_of(n), "pictures": one.pictures, "boxes": one.boxes}
        for n, one in enumerate(counts)
    ]
    content = json.dumps({"classes": classes, "cards": list(cards), "doubtful": limit, "total": total})
    template = files("openferret.labelling").joinpath("review.html").read_text(encoding="utf-8")
    # In a script element only "<" could end it.
    return template.replace("{{content}}", content.replace("<", "\\u003c"))
