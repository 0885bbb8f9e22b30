import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from openferret.errors import InputError
from openferret.eval.leaks import find_leaks, perceptual_hash, picture_id, read_pictures, without_leaks


def scene(seed):
    """A picture with large shapes, as photographs have."""
    noise = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (12, 16, 3), np.uint8))
    return noise.resize((320, 240), Image.Resampling.BICUBIC)


def jpeg(image):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=60)
    return Image.open(io.BytesIO(file.getvalue()))


@pytest.mark.parametrize("seed", range(5))
def test_the_same_picture_in_another_form_is_near_and_others_are_far(seed):
    original = scene(seed)
    own = perceptual_hash(original)
    forms = [
        jpeg(original),
        original.resize((100, 75)),
        original.resize((224, 224)),
        ImageEnhance.Brightness(original).enhance(1.15),
        original.filter(ImageFilter.GaussianBlur(1)),
    ]
    assert all((own ^ perceptual_hash(form)).bit_count() <= 4 for form in forms)
    others = [perceptual_hash(scene(other)) for other in range(100, 140)]
    assert min((own ^ other).bit_count() for other in others) > 8


def test_leaks_are_found_by_name_and_by_looks(tmp_path):
    for folder, name, seed in (
        ("train", "000000000042.png", 1),
        ("train", "a.png", 2),
        ("train", "b.png", 3),
        ("eval", "COCO_val2014_000000000042.png", 9),
        ("eval", "renamed.png", 2),
        ("eval", "new.png", 4),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        scene(seed).save(tmp_path / folder / name)
    train, evaluation = read_pictures(tmp_path / "train"), read_pictures(tmp_path / "eval")
    found = find_leaks(train, evaluation)
    assert [(leak.evaluation, leak.train, leak.how) for leak in found] == [
        ("renamed.png", "a.png", "looks"),
        ("COCO_val2014_000000000042.png", "000000000042.png", "name"),
    ]
    assert without_leaks(train.names, found) == ["b.png"]


def test_lists_of_names_are_compared_by_name(tmp_path):
    (tmp_path / "train.txt").write_text("17\n18\n")
    (tmp_path / "val.txt").write_text("0018.jpg\n19.jpg\n")
    found = find_leaks(read_pictures(tmp_path / "train.txt"), read_pictures(tmp_path / "val.txt"))
    assert [(leak.train, leak.evaluation) for leak in found] == [("18", "0018.jpg")]


def test_names_may_have_spaces(tmp_path):
    (tmp_path / "train.txt").write_text("holiday 1.jpg\r\nholiday 2.jpg\r\n")
    (tmp_path / "val.txt").write_text("work 1.jpg\nholiday 2.jpg\n")
    found = find_leaks(read_pictures(tmp_path / "train.txt"), read_pictures(tmp_path / "val.txt"))
    assert [leak.evaluation for leak in found] == ["holiday 2.jpg"]


def test_names():
    assert picture_id("a/b/0.jpg") == "0"
    assert picture_id("COCO_train2014_000000000007.jpg") == "7"
    assert picture_id("holiday_12.jpg") == "holiday_12"


def test_a_place_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_pictures(tmp_path / "no")
    with pytest.raises(InputError, match="--near"):
        find_leaks(read_pictures(tmp_path) if list(tmp_path.glob("*.png")) else _empty(), _empty(), 99)


def _empty():
    from openferret.eval.leaks import Pictures

    return Pictures((), {})
