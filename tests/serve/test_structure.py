import io
import struct
import time
import zlib

import pytest
from PIL import Image

from openferret.serve.errors import ServeError
from openferret.serve.limits import LIMITS
from openferret.serve.pictures import header_size
from openferret.serve.structure import check_structure


def file_of(form, size=(64, 48), **how):
    held = io.BytesIO()
    Image.radial_gradient("L").resize(size).convert("RGB").save(held, form, **how)
    return held.getvalue()


def png_with_chunks(count):
    raw = file_of("PNG")
    place = raw.index(b"IDAT") - 4
    empty = struct.pack(">I", 0) + b"teSt" + struct.pack(">I", zlib.crc32(b"teSt"))
    return raw[:place] + empty * count + raw[place:]


def jpeg_with(between):
    raw = file_of("JPEG")
    return raw[:2] + between + raw[2:]


def jpeg_with_scans(count):
    raw = file_of("JPEG", progressive=True)
    scan = raw[raw.rindex(b"\xff\xda") : -2]
    return raw[:-2] + scan * count + raw[-2:]


@pytest.mark.parametrize(
    ("raw", "form"),
    [
        (png_with_chunks(1_000_000), "PNG"),
        (jpeg_with(b"\xff\xec\0\2" * 1_000_000), "JPEG"),
        (jpeg_with(b"\xff\xd0" * 1_000_000), "JPEG"),
        (jpeg_with(b"\xff" * 4_000_000), "JPEG"),
        (jpeg_with(b"\xff\0" * 1_000_000), "JPEG"),
        (jpeg_with(b"\xff\xec\0\2" + b"\0" * 4_000_000), "JPEG"),
        (jpeg_with_scans(1_000), "JPEG"),
    ],
)
def test_files_of_endless_parts_are_refused_at_once(raw, form):
    begun = time.process_time()
    with pytest.raises(ServeError) as error:
        header_size(raw, LIMITS)
    assert error.value.code == "damaged_picture"
    assert time.process_time() - begun < 0.5
    with pytest.raises(ServeError):
        check_structure(raw, form)


@pytest.mark.parametrize(
    "raw",
    [
        file_of("PNG"),
        file_of("JPEG"),
        file_of("JPEG", progressive=True),
        file_of("JPEG", exif=b"Exif\0\0" + b"x" * 60_000, icc_profile=b"x" * 300_000, comment=b"c"),
        file_of("WEBP"),
        png_with_chunks(100),
        jpeg_with(b"\xff" * 30 + b"\xff\xec\0\2" * 100),
        jpeg_with_scans(20),
    ],
)
def test_pictures_as_programs_write_them_are_read(raw):
    assert header_size(raw, LIMITS) == (64, 48)
