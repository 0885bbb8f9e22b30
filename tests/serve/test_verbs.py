import io
import json

import numpy as np
import pytest
from PIL import Image

from openferret.answer import Answer
from openferret.masks import encode_rle
from openferret.predictor import Ferret
from openferret.regions import Box


def events(reply):
    """(name, data) of each Server-Sent Event."""
    blocks = [block.split("\n") for block in reply.text.strip().split("\n\n")]
    return [(head.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for head, data in blocks]


@pytest.fixture
def image(client, make):
    raw = make.png(make.picture())
    return {"id": client.post("/v1/images", content=raw, headers={"content-type": "image/png"}).json()["id"]}


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "RGB"), ("PNG", "RGB"), ("PNG", "RGBA"), ("WEBP", "RGBA")]
)
def test_a_picture_of_a_turned_camera_is_seen_upright_by_all(client, kind, mode):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.full((40, 60, len(mode)), 90, np.uint8)
    pixels[:10, :20, :3] = 200
    if mode == "RGBA":
        pixels[:20, :, 3], pixels[20:, :, 3] = 255, 0
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, kind, exif=exif)
    headers = {"content-type": f"image/{kind.lower()}"}
    sent = client.post("/v1/images", content=held.getvalue(), headers=headers).json()
    assert (sent["width"], sent["height"]) == (40, 60)
    store = client.app.state.service.store
    picture = store._find(sent["id"])
    assert np.asarray(picture.image)[5, 35].min() > 150  # the corner that was top left is top right
    assert picture.alpha is None or picture.alpha.shape == (60, 40)
    region = {"type": "box", "x1": 0, "y1": 45, "x2": 40, "y2": 60}
    reply = client.post("/v1/refer", json={"image": {"id": sent["id"]}, "region": region}).json()["answer"]
    assert reply["image"] == {"width": 40, "height": 60}
    assert all(box["pixels"] == [0, 45, 40, 60] for one in reply["mentions"] for box in one["boxes"])
    if mode == "RGBA":  # what is opaque is the region: the right half
        reply = client.post("/v1/refer", json={"image": {"id": sent["id"]}}).json()["answer"]
        assert all(box["pixels"] == [20, 0, 40, 60] for one in reply["mentions"] for box in one["boxes"])


def test_a_picture_is_sent_once_asked_by_its_id_and_dropped(client, make, code):
    raw = make.png(make.picture(7, size=(60, 40)))
    sent = client.post("/v1/images", content=raw, headers={"content-type": "image/png"})
    assert sent.status_code == 201
    info = sent.json()
    assert (info["width"], info["height"], info["expires_in"]) == (60, 40, 1800)
    assert client.get(f"/v1/images/{info['id']}").json() == info
    assert client.post("/v1/ask", json={"image": {"id": info["id"]}, "question": "a"}).status_code == 200
    assert client.delete(f"/v1/images/{info['id']}").status_code == 204
    for reply in (
        client.get(f"/v1/images/{info['id']}"),
        client.delete(f"/v1/images/{info['id']}"),
        client.post("/v1/ask", json={"image": {"id": info["id"]}, "question": "a"}),
    ):
        assert code(reply) == (404, "unknown_image")


def test_answers_are_the_library_s(client, image, lively, make):
    scene = Ferret(lively).encode(make.picture())
    reply = client.post("/v1/refer", json={"image": image, "region": make.BOX, "max_new_tokens": 9}).json()
    expected = scene.refer(Box(8, 8, 40, 40), max_new_tokens=9)
    answer = Answer.from_dict(reply["answer"])
    assert (answer.text, answer.mentions) == (expected.text, expected.mentions)
    assert reply["model"] == scene.loaded.name
    assert set(reply["timings"]) == {"queue", "encode", "prefill", "decode"}
    assert reply["timings"]["decode"] > 0


def test_every_verb_answers_inline_pictures_too(client, make):
    image = make.inline(3)
    for verb, body in {
        "refer": {"regions": [make.BOX, {"type": "point", "x": 1, "y": 2}], "max_new_tokens": 2},
        "ground": {"phrases": ["a dog", "a ball"], "merge": True, "threshold": 0.5},
        "describe": {"max_new_tokens": 2},
        "detect": {"threshold": 0.9},
        "ask": {"question": "is [1] like [0]", "regions": [make.BOX, make.BOX], "max_new_tokens": 2},
    }.items():
        reply = client.post(f"/v1/{verb}", json={"image": image, **body})
        assert reply.status_code == 200, reply.text
        assert len(reply.json().get("answers", [1])) == (2 if verb == "refer" else 1)


def test_every_kind_of_region_is_taken(client, image, make):
    mask = make.picture(1, mode="L").point(lambda level: 255 * (level > 100))
    rle = encode_rle(np.asarray(mask) > 0)
    for region in (
        {"type": "point", "x": -5, "y": 1e6},
        {"type": "box", "x1": 30, "y1": 30, "x2": 2, "y2": 2},
        {"type": "scribble", "points": [[1, 2], [30, 40.5]]},
        {"type": "polygon", "points": [[1, 2], [30, 4], [9, 40]]},
        {"type": "mask", "rle": rle},
        {"type": "mask", "png": make.data_url(make.png(mask)).partition(",")[2]},
    ):
        body = {"image": image, "region": region, "max_new_tokens": 1}
        reply = client.post("/v1/refer", json=body)
        assert reply.status_code == 200, reply.text


def test_the_opaque_part_of_a_picture_is_the_region_where_none_is_given(client, make, code):
    whole = make.picture(4, mode="RGBA")
    whole.putalpha(Image.new("L", whole.size, 0))
    whole.paste((9, 9, 9, 255), (8, 8, 40, 40))
    body = {"image": {"data": make.data_url(make.png(whole))}, "max_new_tokens": 3}
    answer = client.post("/v1/refer", json=body).json()["answer"]
    assert all(box["pixels"] == [8, 8, 40, 40] for mention in answer["mentions"] for box in mention["boxes"])
    opaque = client.post("/v1/refer", json={"image": make.inline(4)})
    assert code(opaque) == (422, "no_region")


def test_a_stream_shows_clean_text_and_then_the_whole_reply(client, image, make):
    for verb, body in {
        "refer": {"region": make.BOX},
        "describe": {},
        "ask": {"question": "what is [0]", "regions": [make.BOX]},
    }.items():
        body = {"image": image, "max_new_tokens": 20, **body}
        plain = client.post(f"/v1/{verb}", json=body).json()
        reply = client.post(f"/v1/{verb}", json={**body, "stream": True})
        assert reply.headers["content-type"].startswith("text/event-stream")
        *tokens, (name, whole) = events(reply)
        assert {kind for kind, _ in tokens} == {"token"}
        assert name == "answer"
        assert "".join(data["text"] for _, data in tokens) == whole["answer"]["text"]
        assert whole["answer"]["text"] == plain["answer"]["text"]
        assert whole["answer"]["mentions"] == plain["answer"]["mentions"]


def test_what_is_wrong_before_the_first_token_of_a_stream_is_a_plain_error(client, image, code):
    body = {"image": image, "question": "what is [4]", "stream": True}
    assert code(client.post("/v1/ask", json=body)) == (422, "invalid_input")


def test_the_best_of_several_drafts_is_the_librarys(client, image, lively, make):
    reply = client.post("/v1/describe", json={"image": image, "drafts": 3, "max_new_tokens": 12})
    expected = Ferret(lively).encode(make.picture()).describe(drafts=3, max_new_tokens=12)
    answer = Answer.from_dict(reply.json()["answer"])
    assert (answer.text, answer.mentions) == (expected.text, expected.mentions)


@pytest.mark.parametrize("wrong", [{"drafts": 0}, {"drafts": 17}, {"drafts": 2, "stream": True}])
def test_drafts_are_few_and_not_streamed(client, image, code, wrong):
    reply = client.post("/v1/describe", json={"image": image, **wrong})
    assert code(reply) == (422, "invalid_body")


def test_several_regions_cannot_be_streamed(client, image, make, code):
    body = {"image": image, "regions": [make.BOX], "stream": True}
    assert code(client.post("/v1/refer", json=body)) == (422, "invalid_body")
