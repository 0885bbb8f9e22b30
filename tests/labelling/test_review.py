import json
import re

import pytest
from PIL import Image

from openferret.errors import InputError
from openferret.labelling.review import count_classes, doubtful_below, most_doubtful, write_review

NAMES = ("cat", "</script><img src=x>")


def opened(path):
    with Image.open(path) as picture:
        return picture.copy()


def test_counts_are_of_pictures_and_boxes(labelled):
    pictures = [
        labelled("a.png", {"cat": [0.9, 0.2], "dog": []}),
        labelled("b.png", {"cat": [0.5], "dog": []}),
    ]
    cat, dog = count_classes(("cat", "dog"), pictures)
    assert (cat.pictures, cat.boxes, cat.lowest, cat.median) == (2, 3, 0.2, 0.5)
    assert (dog.pictures, dog.boxes, dog.lowest, dog.median) == (0, 0, None, None)


def test_the_lowest_tenth_is_marked_and_comes_first(labelled):
    pictures = [labelled(f"{n}.png", {"cat": [0.9 - n / 30]}) for n in range(20)]
    empty = labelled("none.png", {"cat": []})
    assert sum(one.scores[0] <= doubtful_below(pictures) for one in pictures) == 2
    assert [one.name for one in most_doubtful([empty, *pictures], 2)] == ["19.png", "18.png"]
    assert most_doubtful([empty, *pictures], 99)[-1] is empty
    assert doubtful_below([empty]) == 0


def test_models_without_scores_mark_nothing(labelled):
    pictures = [labelled("a.png", {"cat": [None, None]})]
    assert doubtful_below(pictures) == 0
    assert count_classes(("cat",), pictures)[0].median is None


def test_a_page_and_sheets_are_written_anew(labelled, tmp_path):
    pictures = [labelled(f"{n}.png", {NAMES[0]: [0.5], NAMES[1]: [0.1, None]}) for n in range(23)]
    folder = tmp_path / "review"
    page, *sheets = write_review(folder, NAMES, pictures, most=21)
    assert [sheet.name for sheet in sheets] == ["sheet-001.png", "sheet-002.png"]
    assert opened(sheets[0]).width == opened(sheets[1]).width
    write_review(folder, NAMES, pictures, most=3)
    assert [path.name for path in sorted(folder.iterdir())] == ["index.html", "sheet-001.png"]
    html = page.read_text()
    embedded = re.search(r'id="content">(.*?)</script>', html)[1]
    content = json.loads(embedded)
    assert [one["name"] for one in content["classes"]] == list(NAMES)
    assert len(content["cards"]) == 3
    assert content["cards"][0]["picture"].startswith("data:image/jpeg;base64,")
    assert not re.search(r"https?://", html)


def test_marked_boxes_look_different(labelled, tmp_path):
    pictures = [labelled("a.png", {"cat": [0.9]}), labelled("b.png", {"cat": [0.8]})]
    _, sheet = write_review(tmp_path / "review", ("cat",), pictures, most=2)
    drawn = opened(sheet)
    doubt = (0xFF, 0xD6, 0x0A)
    first, second = drawn.crop((0, 90, 404, 400)), drawn.crop((404, 90, 808, 400))
    assert sum(pixel == doubt for pixel in first.get_flattened_data()) > 500
    assert doubt not in second.get_flattened_data()


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (2000, 3)])
def test_pictures_of_any_shape_are_shown(labelled, tmp_path, size):
    pictures = [labelled("a.png", {"cat": [0.5], "x" * 300: [0.4]}, size)]
    write_review(tmp_path / "review", ("cat", "x" * 300), pictures, most=1)


def test_a_picture_that_is_gone_is_said_so(labelled, tmp_path):
    picture = labelled("a.png", {"cat": [0.5]})
    picture.source.unlink()
    page, _ = write_review(tmp_path / "review", ("cat",), [picture], most=1)
    assert '"cards": []' in page.read_text()


def test_a_folder_that_cannot_be_written_is_reported(labelled, tmp_path):
    (tmp_path / "review").write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        write_review(tmp_path / "review", ("cat",), [labelled("a.png", {"cat": []})], most=1)
