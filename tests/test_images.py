"""Every odd picture becomes sensible upright RGB; every bad one is refused in one line."""

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from openferret.errors import InputError
from openferret.images import find_images, load_image

from . import odd_pictures

QUARTERS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that says its size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 9)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*parts) for parts in chunks)


def pixel(image: Image.Image, x: int = 0, y: int = 0) -> tuple[int, ...]:
    assert image.mode == "RGB"
    value = image.getpixel((x, y))
    assert isinstance(value, tuple)
    return value


def test_one_picture_from_every_kind_of_source(tmp_path):
    path = tmp_path / "quarters.png"
    Image.fromarray(QUARTERS).save(path)
    gaps = memoryview(b"".join(bytes([byte, 0]) for byte in path.read_bytes()))[::2]
    for source in (path, str(path), path.read_bytes(), gaps, Image.fromarray(QUARTERS), QUARTERS):
        assert np.array_equal(np.asarray(load_image(source)), QUARTERS)


@pytest.mark.parametrize("size", [(1, 1), (4000, 2), (2, 4000)])
def test_extreme_sizes_are_pictures(size):
    assert load_image(encode(Image.new("RGB", size))).size == size


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied_once(orientation, kind):
    turns = {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}
    stored = Image.fromarray(QUARTERS.repeat(16, 0).repeat(24, 1))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    upright = load_image(encode(stored, kind, exif=exif, **options))

    mirrored = QUARTERS[:, ::-1] if orientation in (2, 4, 5, 7) else QUARTERS
    expected = np.rot90(mirrored, turns[orientation])
    seen = np.asarray(upright.resize((2, 2), Image.Resampling.BOX)).astype(int)
    assert np.abs(seen - expected).max() < 40
    assert load_image(upright).size == upright.size  # nothing is left that turns it again


def test_exif_that_cannot_be_read_is_ignored():
    broken = encode(Image.new("RGB", (6, 4)), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert load_image(broken).size == (6, 4)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "LAB", "I;16", "I", "F", "RGBX"])
def test_white_stays_white_in_every_mode(mode):
    white = {"CMYK": (0, 0, 0, 0), "YCbCr": (255, 128, 128), "HSV": (0, 0, 255), "LAB": (255, 128, 128)}
    deep = {"I;16": 65535, "I": 65535, "F": 1.0, "RGBX": (255,) * 4, "P": 0}
    image = Image.new(mode, (3, 2), white.get(mode, deep.get(mode, 255)))
    if mode == "P":
        image.putpalette([255, 255, 255])
    assert min(pixel(load_image(image))) >= 254


@pytest.mark.parametrize("modes", [["LA"], ["PA"], ["LA", "La"], ["RGBa"], []])
def test_transparent_is_white(modes):
    image = Image.new("RGBA", (2, 2), (200, 0, 0, 0))
    for mode in modes:
        image = image.convert(mode)
    assert pixel(load_image(image)) == (255, 255, 255)


def test_half_transparent_is_laid_over_white():
    red, green, _ = pixel(load_image(encode(Image.new("RGBA", (2, 2), (255, 0, 0, 128)))))
    assert (red, round(green, -1)) == (255, 130)


def test_palette_with_alpha():
    image = Image.new("P", (2, 1))
    image.putpalette([9, 9, 9, 0, 0, 255])
    image.putpixel((1, 0), 1)
    loaded = load_image(encode(image, transparency=0))
    assert [pixel(loaded, 0), pixel(loaded, 1)] == [(255, 255, 255), (0, 0, 255)]


@pytest.mark.parametrize("name", odd_pictures.usable())
def test_odd_pictures_look_as_they_should(name):
    content, size, alike = odd_pictures.usable()[name]
    loaded = load_image(content)
    assert (loaded.mode, loaded.size) == ("RGB", size)
    if alike:
        assert np.abs(np.asarray(loaded, int) - np.asarray(odd_pictures.SCENE, int)).mean() < 12


@pytest.mark.parametrize("name", odd_pictures.refused())
def test_files_that_are_no_pictures_are_told_apart(name):
    content, reason = odd_pictures.refused()[name]
    with pytest.raises(InputError, match=reason) as told:
        load_image(content)
    assert len(str(told.value)) < 200


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_not_clipped(kind):
    ramp = np.array([[0, 257 * 100, 65535]], np.uint16)
    loaded = load_image(encode(Image.fromarray(ramp), kind))
    assert [pixel(loaded, x)[0] for x in range(3)] == [0, 100, 255]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    animated = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert pixel(load_image(animated)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.full((2, 3), True), (255, 255, 255)),
        (np.full((2, 3, 1), 7, np.uint8), (7, 7, 7)),
        (np.full((2, 3), 257 * 7, np.uint16), (7, 7, 7)),
        (np.full((2, 3), 257 * 7, ">u2"), (7, 7, 7)),
        (np.full((2, 3, 3), 0.5, np.float32), (128, 128, 128)),
        (np.full((2, 3, 3), 200, np.int64), (200, 200, 200)),
        (np.full((2, 3, 2), (5, 0), np.uint8), (255, 255, 255)),
        (np.full((2, 3, 4), (5, 6, 7, 255), np.uint8), (5, 6, 7)),
    ],
)
def test_arrays(array, expected):
    loaded = load_image(array)
    assert (loaded.size, pixel(loaded)) == ((3, 2), expected)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((3, 20, 30), np.uint8), "channels first"),
        (np.zeros((0, 5), np.uint8), "no pixels"),
        (np.zeros(5, np.uint8), "height, width"),
        (np.zeros((2, 2, 2, 2), np.uint8), "height, width"),
        (np.full((2, 2), np.nan), "NaN"),
        (np.full((2, 2), 3.5), "0..1"),
        (np.full((2, 2), -1), "0..255"),
        (np.full((2, 2), "a"), "numbers"),
    ],
)
def test_arrays_that_cannot_be_pictures(array, says):
    with pytest.raises(InputError, match=says):
        load_image(array)


@given(arrays(np.uint16, (2, 3)))
@settings(max_examples=25, deadline=None)
def test_scaling_of_sixteen_bits_keeps_order(values):
    grey = np.asarray(load_image(values))[..., 0].ravel()
    assert (np.diff(grey[np.argsort(values.ravel())].astype(int)) >= 0).all()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"hello, I am not a picture", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
        (encode(Image.new("RGB", (64, 64), "red"), "JPEG")[:400], "damaged|not a picture"),
        (encode(Image.effect_noise((64, 64), 50))[:900], "damaged"),
        (encode(Image.effect_noise((64, 64), 50))[:20], "damaged"),
        (png_header(300, 300), "damaged"),
        (png_header(20_000, 10_001), "200 megapixels"),
        (png_header(2**31 - 1, 2**31 - 1), "megapixels"),
        (png_header(0, 5), "no pixels|damaged"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, content, says):
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    for source, name in ((path, "bad.png"), (content, "the picture")):
        with pytest.raises(InputError, match=says) as caught:
            load_image(source)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_size_limit_is_checked_before_decoding_and_reaches_past_pillows_own():
    with pytest.raises(InputError, match="damaged"):  # 190 megapixels: let through by the header
        load_image(png_header(19_000, 10_000))
    with pytest.raises(InputError, match="at most"):
        load_image(Image.new("L", (11, 10)), max_pixels=100)


@given(st.binary(max_size=80), st.integers(0, 60), st.sampled_from(("PNG", "JPEG", "GIF", "BMP", "TIFF")))
@settings(max_examples=60, deadline=None)
def test_damage_never_crashes(noise, where, kind):
    whole = bytearray(encode(Image.new("RGB", (9, 7), "teal"), kind))
    whole[where : where + len(noise)] = noise
    with contextlib.suppress(InputError):
        assert load_image(bytes(whole), max_pixels=10**6).mode == "RGB"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("no-such.png", "does not exist"),
        (".", "folder"),
        ("/dev/null", "regular file"),
        ("https://example.org/a.jpg", "'https://example.org/a.jpg' is a web address"),
        (Path("https://example.org/a.jpg"), "'https://example.org/a.jpg' is a web address"),
        ("HTTP://example.org/a.jpg", "web address"),
        ("nul\0byte.png", "cannot be read|does not exist"),
        ("x" * 5000, "cannot be read|does not exist"),
        (42, "int"),
    ],
)
def test_sources_that_are_no_picture_files(source, says):
    with pytest.raises(InputError, match=says) as caught:
        load_image(source)
    assert "\n" not in str(caught.value)


def test_find_images_expands_folders_and_keeps_order(tmp_path):
    for name in ("b.PNG", "a.jpg", "notes.txt", ".hidden.png"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "c.png").write_bytes(b"")
    loose = Path("missing.gif")
    assert find_images([loose, tmp_path, str(loose)]) == [loose, tmp_path / "a.jpg", tmp_path / "b.PNG"]


def test_a_folder_s_broken_links_and_phone_pictures_are_reported_and_not_passed_over(tmp_path):
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (tmp_path / "folder.jpg").mkdir()
    gone, phone = find_images([tmp_path])
    with pytest.raises(InputError, match="does not exist"):
        load_image(gone)
    with pytest.raises(InputError, match="is a HEIC picture, which is not read: save it as JPEG"):
        load_image(phone)


def test_find_images_refuses_nothing(tmp_path):
    with pytest.raises(InputError, match="no pictures"):
        find_images([tmp_path])
    with pytest.raises(InputError, match="no pictures"):
        find_images([])
    with pytest.raises(InputError, match="empty"):
        find_images([""])
