"""Pictures and masks are opened by the same door: known formats, size first, one line of error."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from openferret.decoding import check_size, read_picture, upright_size
from openferret.errors import InputError
from openferret.images import load_image
from openferret.masks import mask_from_png

from . import odd_pictures


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def test_the_mode_is_kept_and_orientation_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(np.arange(6, dtype=np.uint16).reshape(2, 3))
    upright = read_picture(encode(stored, "PNG", exif=exif), "the mask")
    assert (upright.mode, upright.size) == ("I;16", (2, 3))
    assert np.asarray(upright).tolist() == [[3, 0], [4, 1], [5, 2]]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_a_picture_that_was_read_is_not_turned_again(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6))
    upright = read_picture(encode(stored, kind, exif=exif), "the picture")
    assert np.array_equal(upright, read_picture(upright, "the picture"))
    assert np.array_equal(load_image(upright), load_image(load_image(upright)))
    assert upright.size == ((4, 6) if orientation == 6 else (6, 4))


def test_a_frame_beyond_its_animation_cannot_get_past_the_limit():
    gif = bytearray(encode(Image.new("P", (6, 4)), "GIF"))
    frame = gif.index(b"\x2c\0\0\0\0\x06\0\x04\0")
    gif[frame + 5 : frame + 9] = b"\xff" * 4
    with pytest.raises(InputError, match="too many pixels"):
        read_picture(bytes(gif), "the picture")


@pytest.mark.parametrize("content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"", b"text"])
def test_masks_are_read_from_the_same_formats_as_pictures(content):
    with pytest.raises(InputError, match=r"is empty|not a picture"):
        mask_from_png(content)


def test_odd_metadata_is_no_warning():
    broken = encode(Image.new("RGB", (6, 4)), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_picture(broken, "the picture").size == (6, 4)


@pytest.mark.parametrize("name", odd_pictures.usable())
def test_the_size_is_that_of_the_upright_picture(tmp_path, name):
    content, size, _ = odd_pictures.usable()[name]
    path = tmp_path / name
    path.write_bytes(content)
    assert upright_size(path, name) == size


@pytest.mark.parametrize("name", [one for one in odd_pictures.refused() if not one.startswith("cut")])
def test_what_has_no_size_is_told(tmp_path, name):
    content, reason = odd_pictures.refused()[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason):
        upright_size(path, name)


def test_sizes():
    check_size(20_000, 10_000, "the picture")
    with pytest.raises(InputError, match="no pixels"):
        check_size(0, 4, "the picture")
    with pytest.raises(InputError, match="at most 200"):
        check_size(20_000, 10_001, "the picture")
