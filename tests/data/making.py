"""Samples and small files that several tests of `openferret.data` need."""

import json

from hypothesis import strategies as st
from PIL import Image

from openferret.data.marks import escape_marks
from openferret.data.outlines import RunLengths
from openferret.data.schema import PictureReference, Provenance, Sample, Turn
from openferret.regions import Box, Mask, Point, Polygon, Scribble, region_mask

WIDTH, HEIGHT = 40, 30


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_picture(path, width=WIDTH, height=HEIGHT, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (200, 60, 20)).save(path, **options)
    return path


def picture(**changes):
    values = {"file": "a/1.jpg", "width": WIDTH, "height": HEIGHT, "source": "coco", "id": "1"} | changes
    return PictureReference(**values)


def sample(**changes):
    turns = (
        Turn("user", "What is <region:0>?"),
        Turn("assistant", "<phrase>A cat <box:0> by <phrase>a mat <box:1>."),
    )
    values = {
        "id": "s1",
        "picture": picture(),
        "turns": turns,
        "regions": (Box(1, 2, 20, 25), Box(3.5, 4, 9, 30)),
    }
    return Sample(**values | changes)


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)
side = st.floats(0, 28, width=32)


def _box(draw):
    x, y = draw(side), draw(side)
    return Box(x, y, x + draw(st.floats(1, 9, width=32)), y + draw(st.floats(1, 9, width=32)))


def _region(draw):
    points = draw(st.lists(st.tuples(side, side), min_size=3, max_size=5))
    return draw(
        st.sampled_from(
            [
                _box(draw),
                Point(*points[0]),
                Scribble(points, draw(st.none() | st.floats(1, 5))),
                Polygon(points),
                Mask(region_mask(_box(draw), WIDTH, HEIGHT)),
            ]
        )
    )


@st.composite
def samples(draw):
    """Any sample that the type allows, with words that look like marks among them."""
    count = draw(st.integers(0, 4))
    regions = [_region(draw) for _ in range(count)]
    masks = [
        RunLengths.of(region_mask(one, WIDTH, HEIGHT)) if draw(st.booleans()) else None for one in regions
    ]
    pieces = [
        draw(words | st.sampled_from(["<box:0>", "<phrase>", "<region:1>", "<image>\n"])) for _ in range(4)
    ]
    said = [escape_marks(piece) if piece.strip() else "x" for piece in pieces]
    asked = draw(st.booleans())
    for index in range(count):
        said[0 if asked else 1] += f" <{'region' if asked else 'box'}:{index}>"
        if draw(st.booleans()):
            said[3] += f" <box:{index}>"
    turns = [Turn("assistant" if number % 2 else "user", text) for number, text in enumerate(said)]
    same_as = draw(st.lists(words, max_size=2))
    return Sample(
        draw(words),
        picture(
            file=draw(words),
            id=draw(words),
            same_as=tuple(same_as),
            fingerprint=draw(st.sampled_from(["", "0f" * 8])),
        ),
        tuple(turns),
        tuple(regions),
        tuple(masks),
        Provenance(*(draw(words) for _ in range(5))),
        draw(st.booleans()),
        draw(st.sampled_from(["object", "dialogue"])),
        extra=draw(st.dictionaries(words, st.integers() | words, max_size=2)),
    )
