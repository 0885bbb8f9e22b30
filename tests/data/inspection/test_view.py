from dataclasses import replace
from html.parser import HTMLParser

import pytest

from openferret.data.building.pipeline import build
from openferret.data.building.recipe import load_recipe
from openferret.data.inspection.view import Chosen, to_html, write_page
from openferret.data.loading.dataset import Dataset
from openferret.data.outlines import RunLengths
from openferret.data.schema import Sample, Turn
from openferret.regions import Box, Mask, Point, Polygon, Scribble, region_mask

from .. import small_set


@pytest.fixture
def dataset(tmp_path):
    small_set.write_source(tmp_path / "source")
    recipe = small_set.write_recipe(tmp_path / "recipe.yaml", small_set.recipe_content(tmp_path / "source"))
    build(load_recipe(recipe), tmp_path / "out")
    return Dataset.open(tmp_path / "out")


class Tags(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def of(self, name):
        return [attrs for tag, attrs in self.found if tag == name]


def test_the_page_stands_alone(dataset, tmp_path):
    assert write_page(dataset, Chosen(limit=20), tmp_path / "page.html") == 20
    tags = Tags((tmp_path / "page.html").read_text())
    assert len(tags.of("article")) == len(tags.of("image")) == 20
    assert all(one["href"].startswith("data:image/jpeg;base64,") for one in tags.of("image"))
    assert not {"script", "link", "iframe", "a", "img"} & {tag for tag, _ in tags.found}
    policy = next(one["content"] for one in tags.of("meta") if "http-equiv" in one)
    assert policy.startswith("default-src 'none'")
    assert len(tags.of("rect")) >= 10


def test_what_is_shown_can_be_chosen(dataset):
    samples = list(dataset.samples())
    assert {one.task for one in Chosen(limit=9).of(samples)} == {one.task for one in samples}
    assert all(one.task == "object" for one in Chosen(task="object").of(samples))
    assert all(one.negative for one in Chosen(negative=True).of(samples))
    assert Chosen(source="nobody").of(samples) == []
    assert Chosen(limit=5).of(samples) == Chosen(limit=5).of(reversed(samples))
    assert Chosen(limit=5, seed=1).of(samples) != Chosen(limit=5).of(samples)


def test_words_of_the_data_are_only_words(dataset):
    first = next(one for one in dataset.samples() if not one.regions or one.task == "object")
    turns = (Turn("user", "<script>alert(1)</script> <b>\0</b>"), Turn("assistant", 'a "<\\box:0>" & <i>'))
    page = to_html(dataset, [Sample('"><script>', first.picture, turns, task="<i>")])
    assert "script" not in {tag for tag, _ in Tags(page).found}
    assert "&lt;script&gt;alert(1)" in page
    assert "&lt;box:0&gt;" in page


def test_every_kind_of_region_is_drawn(dataset):
    first = next(dataset.samples())
    box = Box(5, 5, 40, 40)
    mask = Mask(region_mask(Polygon([(1, 1), (50, 2), (20, 40)]), small_set.WIDTH, small_set.HEIGHT))
    outline = RunLengths.of(region_mask(box, small_set.WIDTH, small_set.HEIGHT))
    regions = (box, Point(9, 9), Polygon([(1, 1), (9, 2), (3, 8)]), Scribble([(1, 1), (9, 9)]), mask)
    asked = " ".join(f"<region:{number}>" for number in range(5))
    sample = Sample(
        "s", first.picture, (Turn("user", asked), Turn("assistant", "yes")), regions, (outline, *[None] * 4)
    )
    tags = Tags(to_html(dataset, [sample]))
    for name in ("rect", "circle", "polygon", "polyline"):
        assert len(tags.of(name)) == 1
        assert "stroke-dasharray" in tags.of(name)[0]


def test_a_picture_that_is_gone_is_told(dataset, tmp_path):
    sample = next(dataset.samples())
    (tmp_path / "source" / "pictures" / sample.picture.file.removeprefix("mine/")).unlink()
    page = to_html(
        dataset,
        [
            sample,
            replace(
                sample,
                picture=None,
                regions=(),
                masks=(),
                turns=(Turn("user", "Hi"), Turn("assistant", "Ho")),
            ),
        ],
    )
    assert Tags(page).of("image") == []
    assert "no picture" in page
