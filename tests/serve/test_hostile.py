import base64
import io
import json
import struct
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from openferret.serve.app import ServerSettings
from openferret.serve.engine import EngineSettings
from openferret.serve.limits import Limits

JSON = {"content-type": "application/json"}
PNG = {"content-type": "image/png"}


def lying_png(width, height):
    """A PNG whose header promises a size that its few bytes do not hold."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 99))
        + chunk(b"IEND", b"")
    )


def flat_png(width, height):
    """A whole PNG of one colour: few bytes, many pixels."""
    held = io.BytesIO()
    Image.new("1", (width, height)).save(held, "PNG")
    return held.getvalue()


@pytest.mark.parametrize(
    ("raw", "kind", "expected"),
    [
        (lying_png(100_000, 100_000), "image/png", (413, "picture_too_large")),
        (lying_png(8000, 8000), "image/png", (413, "picture_too_large")),
        (flat_png(9000, 9000), "image/png", (413, "picture_too_large")),
        (lying_png(500, 500), "image/png", (422, "damaged_picture")),
        (lying_png(0, 0), "image/png", (422, "damaged_picture")),
        (b"\x89PNG\r\n\x1a\n", "image/png", (422, "damaged_picture")),
        (b"\xff\xd8\xff" + b"x" * 100, "image/jpeg", (422, "damaged_picture")),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp", (422, "damaged_picture")),
        (b"GIF89a" + b"x" * 100, "image/gif", (415, "unsupported_picture")),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "image/png", (415, "unsupported_picture")),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", (415, "unsupported_picture")),
        (b"", "image/png", (415, "unsupported_picture")),
        (b"x", "text/plain", (415, "unsupported_content_type")),
        (b"x", "", (415, "unsupported_content_type")),
    ],
)
def test_pictures_that_cannot_be_used(client, code, raw, kind, expected):
    assert code(client.post("/v1/images", content=raw, headers={"content-type": kind})) == expected


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_degenerate_pictures_are_answered(client, make, size):
    image = {"data": make.data_url(make.png(Image.new("RGB", size)))}
    for region in (
        {"type": "point", "x": 0, "y": 0},
        {"type": "polygon", "points": [[0, 0], [0, 0], [0, 0]]},
    ):
        body = {"image": image, "region": region, "max_new_tokens": 1}
        assert client.post("/v1/refer", json=body).status_code == 200


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", (422, "invalid_body")),
        (b"null", (422, "invalid_body")),
        (b"[]", (422, "invalid_body")),
        (b"{", (400, "invalid_json")),
        (b'{"question": NaN}', (400, "invalid_json")),
        (b"[" * 1_000_000, (400, "json_too_deep")),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, (400, "json_too_deep")),
        (b'{"image":{"id":"a"},"question":"a","max_new_tokens":1e999}', (422, "invalid_body")),
    ],
)
def test_bodies_that_are_no_request(client, code, raw, expected):
    assert code(client.post("/v1/ask", content=raw, headers=JSON)) == expected


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/xml", "multipart/form-data"]
)
def test_another_content_type_is_415(client, code, kind):
    reply = client.post("/v1/ask", content=b"{}", headers={"content-type": kind})
    assert code(reply) == (415, "unsupported_content_type")


def test_a_compressed_body_is_415(client, code):
    reply = client.post("/v1/ask", content=b"{}", headers={**JSON, "content-encoding": "gzip"})
    assert code(reply) == (415, "unsupported_encoding")


@pytest.mark.parametrize(
    "change",
    [
        {"question": 5},
        {"question": None},
        {"question": "a" * 20_000},
        {"max_new_tokens": "5"},
        {"max_new_tokens": True},
        {"max_new_tokens": 10**30},
        {"max_new_tokens": -1},
        {"stream": "yes"},
        {"unknown": 1},
        {"image": {}},
        {"image": {"id": "a", "data": "b"}},
        {"image": "a"},
        {"regions": {}},
        {"regions": [{"type": "circle"}]},
        {"regions": [{"type": "point", "x": "1", "y": 2}]},
        {"regions": [{"type": "point", "x": 1e300, "y": 2}]},
        {"regions": [{"type": "point", "x": True, "y": 2}]},
        {"regions": [{"type": "mask"}]},
        {"regions": [{"type": "mask", "rle": {"size": [4, 4], "counts": [16]}, "png": "x"}]},
        {"regions": [{"type": "mask", "rle": {"size": [4], "counts": [16]}}]},
        {"regions": [{"type": "mask", "rle": {"size": [4, 4], "counts": [-1, 17]}}]},
        {"regions": [{"type": "polygon", "points": [[0, 0], [1, 1]]}]},
        {"regions": [{"type": "polygon", "points": [[0, 0, 0]] * 3}]},
        {"regions": [{"type": "point", "x": 1, "y": 1}] * 33},
    ],
)
def test_wrong_types_and_too_many_of_anything_are_422(client, make, code, change):
    body = {"image": make.inline(), "question": "a", "max_new_tokens": 1, **change}
    assert code(client.post("/v1/ask", json=body)) == (422, "invalid_body")


def test_a_million_vertices_are_refused_before_they_are_parsed(client, make, code):
    region = {"type": "polygon", "points": [[0, 0]] * 1_000_000}
    body = json.dumps({"image": make.inline(), "region": region}).encode()
    assert code(client.post("/v1/refer", content=body, headers=JSON)) == (413, "json_too_large")
    region["points"] = region["points"][:20_000]
    body = {"image": make.inline(), "region": region}
    assert code(client.post("/v1/refer", json=body)) == (422, "invalid_body")


@pytest.mark.parametrize(
    "regions",
    [
        [{"type": "polygon", "points": [["a", "b"]] * 9_000}] * 10,
        [{"type": "mask", "rle": {"size": [4, 4], "counts": ["a"] * 190_000}}],
        [{"type": "circle"}] * 1_000,
        ["a"] * 300_000,
    ],
)
def test_a_hundred_thousand_faults_are_told_by_their_first_at_once(client, make, code, regions):
    body = json.dumps({"image": {"id": "a"}, "question": "a", "regions": regions}).encode()
    begun = time.process_time()
    assert code(client.post("/v1/ask", content=body, headers=JSON)) == (422, "invalid_body")
    assert time.process_time() - begun < 3


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ({"rle": {"size": [1_000_000, 1_000_000], "counts": [10**12]}}, "invalid_region"),
        ({"rle": {"size": [48, 64], "counts": [10**18, 1]}}, "invalid_region"),
        ({"rle": {"size": [48, 64], "counts": [10**30]}}, "invalid_region"),
        ({"rle": {"size": [48, 64], "counts": [3072]}}, "invalid_region"),
        ({"rle": {"size": [48, 64], "counts": [1, 2]}}, "invalid_region"),
        ({"rle": {"size": [48, 64], "counts": "~~~~"}}, "invalid_region"),
        ({"rle": {"size": [48, 64], "counts": "o" * 500}}, "invalid_region"),
        ({"rle": {"size": [48, 64], "counts": ""}}, "invalid_region"),
        ({"png": "not base64!"}, "invalid_base64"),
        ({"png": "AAAA"}, "invalid_region"),
        ({"png": ""}, "invalid_region"),
        ({"png": base64.b64encode(lying_png(50_000, 50_000)).decode()}, "invalid_region"),
        ({"png": base64.b64encode(lying_png(64, 48)[:20]).decode()}, "invalid_region"),
    ],
)
def test_masks_that_lie_are_422(client, make, code, mask, expected):
    reply = client.post("/v1/refer", json={"image": make.inline(), "region": {"type": "mask", **mask}})
    assert code(reply) == (422, expected)
    assert "mask" in reply.json()["error"]["message"] or "RLE" in reply.json()["error"]["message"]


def test_masks_of_many_megapixels_cost_what_their_runs_cost(client, make):
    size = (8000, 5000)
    image = {"data": make.data_url(flat_png(*size))}
    mask = {"type": "mask", "rle": {"size": size[::-1], "counts": [10**7, 2 * 10**7, 10**7]}}
    body = {"image": image, "regions": [mask] * 20, "max_new_tokens": 1}
    assert client.post("/v1/refer", json={**body, "regions": [mask]}).status_code == 200
    begun = time.process_time()
    reply = client.post("/v1/refer", json=body)
    assert time.process_time() - begun < 10  # once 20 seconds
    boxes = [one["mentions"][0]["boxes"][0]["pixels"] for one in reply.json()["answers"] if one["mentions"]]
    assert boxes
    assert all(one == [2000, 0, 6000, 5000] for one in boxes)


def test_regions_are_bounded_together(new_client, make, code):
    limits = Limits(mask_pixels=10_000, mask_runs=300, request_vertices=100)
    client = new_client(ServerSettings(hosts=("testserver",), limits=limits))
    image = {"data": make.data_url(flat_png(64, 48))}
    png = {"type": "mask", "png": make.data_url(make.png(make.picture(mode="L"))).partition(",")[2]}
    ends = [1536, 1536]
    striped = {
        "type": "mask",
        "rle": {"size": [48, 64], "counts": [*[1] * 300, *(one - 150 for one in ends)]},
    }
    line = {"type": "polygon", "points": [[0, 0], [9, 0], [9, 9]] * 10}
    box = {"type": "mask", "rle": {"size": [48, 64], "counts": ends}}
    for regions, right in (
        ([png] * 4, False),
        ([striped, striped], False),
        ([line] * 4, False),
        ([line] * 3 + [box] * 5, True),
    ):
        body = {"image": image, "regions": regions, "max_new_tokens": 1}
        reply = client.post("/v1/refer", json=body)
        if right:
            assert reply.status_code == 200
        else:
            assert code(reply) == (413, "regions_too_large")
    assert client.app.state.service.budget.held == 0


def test_a_region_that_is_mentioned_a_thousand_times_is_not_read_a_thousand_times(client, make, code):
    body = {"image": make.inline(), "question": "[0]" * 1000, "regions": [make.BOX], "max_new_tokens": 1}
    assert code(client.post("/v1/ask", json=body)) == (422, "invalid_input")
    assert client.post("/v1/ask", json={**body, "question": "[0]" * 32}).status_code == 200


def test_base64_may_be_written_in_lines(client, make):
    raw = make.png(make.picture())
    lines = base64.encodebytes(raw).decode().replace("\n", "\r\n")
    image = {"data": f"data:image/png;base64,{lines}"}
    assert client.post("/v1/describe", json={"image": image, "max_new_tokens": 1}).status_code == 200


def test_a_mask_of_another_size_is_refused_by_its_header(client, make, code):
    for size in ((49, 64), (5000, 5000)):
        mask = make.data_url(flat_png(*size)).partition(",")[2]
        body = {"image": make.inline(), "region": {"type": "mask", "png": mask}}
        assert code(client.post("/v1/refer", json=body)) == (422, "invalid_region")


@pytest.mark.parametrize("image", [{"id": "img_nothing"}, {"id": "../../etc/passwd"}, {"id": ""}])
def test_an_unknown_picture_is_404(client, code, image):
    assert code(client.post("/v1/describe", json={"image": image})) == (404, "unknown_image")


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({"url": "https://example.com/a.png"}, "url_not_allowed"),
        ({"url": "file:///etc/passwd"}, "url_not_allowed"),
        ({"data": "/etc/passwd"}, "invalid_data_url"),
        ({"data": "data:text/plain;base64,AAAA"}, "invalid_data_url"),
        ({"data": "data:image/png;base64,###"}, "invalid_base64"),
        ({"data": "data:image/png;base64,AA\u00e9A"}, "invalid_base64"),
    ],
)
def test_nothing_is_fetched_or_read_from_disk(client, code, image, expected):
    assert code(client.post("/v1/describe", json={"image": image})) == (422, expected)


def test_a_body_over_the_limit_is_413_declared_or_not(new_client, code):
    client = new_client(ServerSettings(hosts=("testserver",), limits=Limits(body=10_000)))
    whole = b"x" * 20_000
    assert code(client.post("/v1/images", content=whole, headers=PNG)) == (413, "body_too_large")
    chunked = client.post("/v1/images", content=iter([b"x" * 1000] * 20), headers=PNG)
    assert code(chunked) == (413, "body_too_large")
    lying = {**PNG, "content-length": "10"}
    assert code(client.post("/v1/images", content=b"x" * 5000, headers=lying)) == (400, "wrong_length")
    huge = {**PNG, "content-length": "9" * 14}
    assert code(client.post("/v1/images", content=b"x", headers=huge)) == (413, "body_too_large")
    odd = {**PNG, "content-length": "-5"}
    assert code(client.post("/v1/images", content=b"x", headers=odd)) == (400, "wrong_length")


def test_memory_of_all_requests_together_is_bounded(new_client, make, code):
    client = new_client(ServerSettings(hosts=("testserver",), limits=Limits(held=100_000)))
    big = make.png(Image.new("RGB", (400, 400)))
    reply = client.post("/v1/images", content=big, headers=PNG)
    assert code(reply) == (429, "busy")
    assert reply.headers["retry-after"] == "1"
    small = make.png(make.picture())
    assert client.post("/v1/images", content=small, headers=PNG).status_code == 201
    make.wait_for(lambda: client.app.state.service.budget.held == 0)  # once it is read


def test_a_full_queue_is_429_and_the_deadline_504(new_client, new_engine, make, code):
    engine = new_engine(EngineSettings(waiting=1), start=False)
    client = new_client(ServerSettings(hosts=("testserver",), deadline=3.0), engine=engine)
    make.wait_for(lambda: engine.ready)
    hold = threading.Event()
    engine.ferret.encode = lambda image: hold.wait(30)
    body = {"image": make.inline(1), "question": "a"}
    got = []
    try:
        asking = [
            threading.Thread(target=lambda: got.append(client.post("/v1/ask", json=body))) for _ in range(4)
        ]
        for one in asking:
            one.start()
        for one in asking:
            one.join(30)
    finally:
        hold.set()
    codes = sorted(code(reply) for reply in got)
    assert set(codes) == {(429, "queue_full"), (504, "deadline_exceeded")}
    assert codes[0] == (429, "queue_full")


def test_a_stream_that_takes_too_long_ends_with_a_typed_error(new_client, lively, make):
    from openferret.serve.engine import Engine

    client = new_client(ServerSettings(hosts=("testserver",), deadline=0.4), engine=Engine(lively))
    make.wait_for(lambda: client.get("/health/ready").status_code == 200)
    image = {"id": client.post("/v1/images", content=make.png(make.picture()), headers=PNG).json()["id"]}
    body = {"image": image, "question": "a", "max_new_tokens": 512, "stream": True}
    reply = client.post("/v1/ask", json=body)
    if reply.status_code == 200:
        last = reply.text.strip().split("\n\n")[-1]
        assert last.startswith("event: error\n")
        assert json.loads(last.partition("data: ")[2])["error"]["code"] == "deadline_exceeded"
    else:
        assert reply.status_code == 504


def test_names_of_pictures_expire(new_client, make, code):
    client = new_client(ServerSettings(hosts=("testserver",), image_seconds=-1))
    name = client.post("/v1/images", content=make.png(make.picture()), headers=PNG)
    assert code(name) == (404, "unknown_image")


def test_logs_hold_no_pictures_no_questions_and_no_paths_of_clients(client, make, caplog):
    caplog.set_level("INFO", logger="openferret")
    body = {"image": make.inline(), "question": "a secret question", "max_new_tokens": 1}
    assert client.post("/v1/ask", json=body).status_code == 200
    client.get("/v1/secret%0apath")
    client.get("/assets/secret")
    assert caplog.records
    assert "secret" not in caplog.text
    assert "base64" not in caplog.text
    assert all("\n" not in record.getMessage() for record in caplog.records)


def test_labels_of_the_metrics_are_bounded(client):
    for number in range(20):
        client.get(f"/nowhere/{number}")
        client.get(f"/v1/images/{number}")
        client.request(f"ODD{number}", "/v1/ask")
    text = client.get("/metrics").text
    assert "nowhere" not in text
    assert "ODD" not in text
    assert 'route="/v1/images/{image_id}"' in text
    assert 'route="other"' in text


def test_arrays_of_noise_never_make_a_500(client, make):
    noise = np.random.default_rng(0)
    for size in noise.integers(0, 400, 40):
        raw = b"\x89PNG\r\n\x1a\n" + noise.bytes(int(size))
        assert client.post("/v1/images", content=raw, headers=PNG).status_code in (413, 415, 422)
