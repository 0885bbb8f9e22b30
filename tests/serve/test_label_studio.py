"""Requests in the shape that Label Studio sends (label-studio-ml-backend, examples/yolo), answered by a fake model."""

import base64
import io
from types import SimpleNamespace
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from openferret.answer import Answer, LocatedBox, Mention
from openferret.errors import InputError
from openferret.regions import Box
from openferret.serve.errors import ServeError
from openferret.serve.label_studio import label_studio_router
from openferret.serve.limits import LIMITS, Budget
from openferret.serve.pictures import PictureStore

CONFIG = """
<View>
  <Image name="img" value="$photo"/>
  <RectangleLabels name="label" toName="img" model_score_threshold="0.25">
    <Label value="Airplane" background="green"/>
    <Label value="Car" background="blue" predicted_values="car, truck"/>
  </RectangleLabels>
</View>
"""


def png(size=(100, 50)):
    stream = io.BytesIO()
    Image.new("RGB", size, "gray").save(stream, "PNG")
    return stream.getvalue()


def data_url(size=(100, 50)):
    return "data:image/png;base64," + base64.b64encode(png(size)).decode()


async def ground(request, picture, names):
    """Every name is there twice, the second time with a score below CONFIG's threshold."""
    if "bad" in names:
        raise InputError("a phrase that cannot be looked for")
    if "busy" in names:
        raise ServeError(429, "busy", "come again")
    size = picture.image.size
    boxes = tuple(LocatedBox.of(Box(10, 5, 60, 30), *size, score) for score in (0.75, 0.125))
    return Answer("", tuple(Mention(name, (0, 0), boxes) for name in names), *size, "kit")


@pytest.fixture
def client(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a b.png").write_bytes(png())
    (tmp_path / "secret.png").write_bytes(png())
    (tmp_path / "photos" / "link.png").symlink_to(tmp_path / "secret.png")
    app = FastAPI()
    app.state.store = PictureStore(LIMITS, Budget(LIMITS.held))
    app.state.service = SimpleNamespace(limits=LIMITS)
    app.state.calls = []

    async def counted(request, picture, names):
        app.state.calls.append(list(names))
        return await ground(request, picture, names)

    app.include_router(
        label_studio_router(counted, app.state.store, model_version="kit-1", folders=[tmp_path / "photos"])
    )

    @app.exception_handler(ServeError)
    async def refuse(request, error):
        from fastapi.responses import JSONResponse

        return JSONResponse(error.body(), error.status_code)

    with TestClient(app) as made:
        yield made


def predict(client, *photos, config=CONFIG):
    tasks = [{"id": n, "data": {"photo": photo}, "annotations": []} for n, photo in enumerate(photos)]
    return client.post(
        "/predict",
        json={
            "tasks": tasks,
            "model_version": "kit-1",
            "project": "42.1718752486",
            "label_config": config,
            "params": {"login": None, "password": None, "context": None},
        },
    )


def test_a_project_is_connected(client):
    assert client.get("/health").json()["status"] == "UP"
    setup = {
        "project": "42.1718752486",
        "schema": CONFIG,
        "hostname": "http://localhost:8080",
        "access_token": "x",
    }
    assert client.post("/setup", json=setup).json() == {"model_version": "kit-1"}
    assert client.post("/setup", json=setup | {"schema": "<View></View>"}).status_code == 200


def test_boxes_are_percent_under_the_projects_own_names(client):
    reply = predict(client, data_url())
    assert reply.status_code == 200, reply.text
    (result,) = reply.json()["results"]
    assert (result["model_version"], result["score"]) == ("kit-1", 0.75)
    assert [box["value"]["rectanglelabels"] for box in result["result"]] == [["Airplane"], ["Car"], ["Car"]]
    assert client.app.state.calls == [["Airplane", "car", "truck"]]
    first = result["result"][0]
    assert len({box["id"] for box in result["result"]}) == 3
    del first["id"]
    assert first == {
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "img",
        "original_width": 100,
        "original_height": 50,
        "image_rotation": 0,
        "score": 0.75,
        "value": {
            "x": 10,
            "y": 10,
            "width": 50,
            "height": 50,
            "rotation": 0,
            "rectanglelabels": ["Airplane"],
        },
    }


def test_two_controls_label_two_pictures(client):
    config = (
        '<View><Image name="one" value="$photo"/><Image name="two" value="$other"/>'
        '<RectangleLabels name="a" toName="one"><Label value="x"/></RectangleLabels>'
        '<RectangleLabels name="b" toName="two"><Label value="y"/></RectangleLabels></View>'
    )
    task = {"data": {"photo": data_url(), "other": data_url((30, 30))}}
    reply = client.post("/predict", json={"tasks": [task], "label_config": config})
    boxes = reply.json()["results"][0]["result"]
    assert [(box["from_name"], box["to_name"], box["original_width"]) for box in boxes] == [
        *[("a", "one", 100)] * 2,
        *[("b", "two", 30)] * 2,
    ]


@pytest.mark.parametrize("source", ["a b.png", "/data/local-files/?d=a%20b.png", "/data/a%20b.png"])
def test_files_of_the_allowed_folder_are_read(client, source):
    assert predict(client, source).status_code == 200


def test_a_full_path_below_the_allowed_folder_is_read(client, tmp_path):
    assert predict(client, str(tmp_path / "photos" / "a b.png")).status_code == 200


@pytest.mark.parametrize(
    "source",
    [
        "../secret.png",
        "link.png",
        "/data/local-files/?d=" + quote("../secret.png"),
        "/data/%2e%2e/secret.png",
        "/etc/hostname",
        "/dev/zero",
        "a b.png\0",
        "x" * 5000,
        "",
        "http://127.0.0.1/a.png",
        "https://example.org/a.png",
        "//example.org/a.png",
        "s3://bucket/a.png",
        "file:///etc/hostname",
        "http://[/",
        "data:image/png;base64,!!!!",
        "data:text/html;base64,aaaa",
        "img_unknown",
        "/v1/images/img_unknown",
    ],
)
def test_other_pictures_are_refused_and_not_named(client, source, tmp_path):
    reply = predict(client, source)
    assert reply.status_code in (404, 415, 422), reply.text
    assert str(tmp_path) not in reply.text
    assert reply.json()["error"]["code"]


def test_without_folders_no_file_is_read(tmp_path):
    app = FastAPI()
    store = PictureStore(LIMITS, Budget(LIMITS.held))
    app.state.service = SimpleNamespace(limits=LIMITS)
    app.include_router(label_studio_router(ground, store, model_version="kit"))
    (tmp_path / "a.png").write_bytes(png())
    with TestClient(app) as client:
        assert predict(client, str(tmp_path / "a.png")).status_code == 422


def test_a_picture_sent_before_is_known_by_its_id(client):
    store = client.app.state.store

    async def send():
        async with store.decoded(png()) as picture:
            return store.name(picture)

    name = client.portal.call(send)
    assert predict(client, name).status_code == 200
    assert predict(client, f"/v1/images/{name}").status_code == 200


def test_one_bad_task_harms_no_other(client):
    reply = predict(client, data_url(), "missing.png", data_url())
    first, bad, last = reply.json()["results"]
    assert first["result"]
    assert last["result"]
    assert bad["result"] == []
    assert bad["error"]["code"] == "picture_not_allowed"


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ("<View", "invalid_label_config"),
        ("", "invalid_label_config"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>', "invalid_label_config"),
        ('<!DOCTYPE x SYSTEM "file:///etc/hostname"><View/>', "invalid_label_config"),
        ("<View></View>", "no_rectangle_labels"),
        (
            '<View><RectangleLabels name="l" toName="i"><Label value="x"/></RectangleLabels></View>',
            "no_rectangle_labels",
        ),
        (CONFIG.replace("0.25", "nan"), "invalid_threshold"),
        (CONFIG.replace("Airplane", "x" * 600), "invalid_label"),
        (CONFIG.replace("Airplane", "bad"), "invalid_label"),
        (CONFIG.replace("car, truck", ",".join(f"n{n}" for n in range(1001))), "too_many_labels"),
    ],
)
def test_interfaces_that_cannot_be_used(client, config, code):
    reply = predict(client, data_url(), config=config)
    assert reply.status_code == 422
    assert reply.json()["error"]["code"] == code


def test_a_busy_server_says_so(client):
    assert predict(client, data_url(), config=CONFIG.replace("Airplane", "busy")).status_code == 429


def test_more_names_than_one_request_takes_are_asked_in_turns(client):
    labels = "".join(f'<Label value="n{n}"/>' for n in range(LIMITS.phrases + 3))
    config = CONFIG.replace('<Label value="Airplane" background="green"/>', labels)
    boxes = predict(client, data_url(), config=config).json()["results"][0]["result"]
    assert [len(names) for names in client.app.state.calls] == [LIMITS.phrases, 5]
    assert len({box["id"] for box in boxes}) == len(boxes) == LIMITS.phrases + 5


@pytest.mark.parametrize(
    "body",
    [{}, {"tasks": {}}, {"tasks": [[]], "label_config": ""}, {"tasks": [{}] * 300, "label_config": "x"}, []],
)
def test_bodies_of_another_form_are_422(client, body):
    assert client.post("/predict", json=body).status_code == 422


def test_deep_json_is_refused(client):
    deep = b'{"tasks": ' + b"[" * 100_000
    reply = client.post("/predict", content=deep, headers={"Content-Type": "application/json"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "json_too_deep")
