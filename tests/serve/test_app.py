import asyncio
import importlib.util
import json

import pytest
from fastapi.testclient import TestClient


@pytest.mark.parametrize("path", ["/", "/v1/models", "/nowhere", "/docs"])
def test_every_reply_forbids_other_hosts_and_inline_scripts(client, path):
    reply = client.get(path)
    policy = reply.headers["content-security-policy"]
    assert policy.startswith("default-src 'self'; img-src 'self' data: blob:")
    assert "unsafe" not in policy
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["x-request-id"].startswith("req-")


def test_the_page_is_served_from_its_built_files_and_nothing_else(new_client, tmp_path, code):
    dist = tmp_path / "dist"
    (dist / "assets").mkdir(parents=True)
    (dist / "index.html").write_text("<!doctype html>page")
    (dist / "assets" / "page.js").write_text("1")
    (tmp_path / "secret").write_text("secret")
    client = new_client(page_folder=dist)
    index = client.get("/")
    assert (index.text, index.headers["content-type"]) == ("<!doctype html>page", "text/html; charset=utf-8")
    script = client.get("/assets/page.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert client.get("/assets/page.js", headers={"If-None-Match": script.headers["etag"]}).status_code == 304
    for path in (
        "/assets/../../secret",
        "/assets/%2e%2e/%2e%2e/secret",
        "/assets//etc/passwd",
        "/assets/index.html",
    ):
        assert code(client.get(path)) == (404, "not_found")


def test_a_page_that_is_not_built_is_said_to_be(new_client, tmp_path, code):
    assert code(new_client(page_folder=tmp_path).get("/")) == (404, "page_not_built")


def test_openapi_has_examples_that_are_good_and_says_what_can_go_wrong(client):
    from openferret.serve import schemas

    api = client.get("/openapi.json").json()
    asked = [name for name in api["components"]["schemas"] if name.endswith("Body")]
    assert set(asked) >= {"ReferBody", "GroundBody", "DescribeBody", "DetectBody", "AskBody", "ChatBody"}
    for name in asked:
        for example in api["components"]["schemas"][name]["examples"]:
            getattr(schemas, name).model_validate(example)
    for verb in ("refer", "ground", "describe", "detect", "ask", "chat/completions"):
        stated = set(api["paths"][f"/v1/{verb}"]["post"]["responses"])
        assert stated >= {"200", "400", "401", "404", "413", "415", "422", "429", "504"}


def test_openapi_says_of_every_route_that_can_stream_that_it_does(client):
    api = client.get("/openapi.json").json()
    schemas = api["components"]["schemas"]
    said = {}
    for path, methods in api["paths"].items():
        for route in methods.values():
            body = route.get("requestBody", {}).get("content", {}).get("application/json", {})
            fields = schemas.get(body.get("schema", {}).get("$ref", "").rpartition("/")[2], {}).get(
                "properties", {}
            )
            if "stream" in fields:
                said[path] = set(route["responses"]["200"]["content"])
    assert said == {
        key: {"application/json", "text/event-stream"}
        for key in ("/v1/refer", "/v1/describe", "/v1/ask", "/v1/chat/completions")
    }


def test_the_reference_is_a_page_without_scripts(client):
    page = client.get("/docs").text
    assert "/v1/refer" in page
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page


def test_a_wrong_method_is_405(client, code):
    assert code(client.put("/v1/refer")) == (405, "method_not_allowed")


def test_a_failure_of_ours_shows_nothing_of_it(client, code, monkeypatch, make):
    monkeypatch.setattr(client.app.state.service.store, "decoded", lambda raw: 1 / 0)
    reply = client.post("/v1/images", content=b"x", headers={"content-type": "image/png"})
    assert code(reply) == (500, "internal_error")


def test_who_waits_when_the_server_stops_waiting_is_told_so():
    from openferret.serve.app import _Outermost
    from openferret.serve.metrics import Metrics

    sent = []

    async def answer(scope, receive, send):
        await asyncio.sleep(600)

    async def send(message):
        sent.append(message)

    async def run():
        scope = {"type": "http", "method": "POST", "path": "/v1/ask", "headers": []}
        asked = asyncio.ensure_future(_Outermost(answer, Metrics())(scope, None, send))
        await asyncio.sleep(0.01)
        asked.cancel()
        await asked

    asyncio.run(run())
    assert sent[0]["status"] == 503
    assert json.loads(sent[1]["body"])["error"]["code"] == "shutting_down"


def test_websockets_are_refused(client):
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/v1/refer"):
        pass


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("openai") is None, reason="the openai package is not installed")
def test_the_openai_client_talks_to_kit(make):
    import httpx
    from openai import OpenAI
    from PIL import Image, ImageDraw

    from openferret import Ferret
    from openferret.serve.app import ServerSettings, create_app
    from openferret.serve.engine import Engine

    drawn = Image.new("RGB", (320, 240), "white")
    ImageDraw.Draw(drawn).ellipse((60, 60, 180, 180), fill="red")
    settings = ServerSettings(keys=("k" * 20,), deadline=300)
    app = create_app(Engine(Ferret.load().loaded), settings)
    with TestClient(app) as server:

        def over(request):
            reply = server.request(
                request.method, request.url.path, headers=dict(request.headers), content=request.read()
            )
            return httpx.Response(reply.status_code, headers=dict(reply.headers), content=reply.content)

        transport = httpx.MockTransport(over)
        with httpx.Client(transport=transport) as http:
            client = OpenAI(
                api_key="k" * 20, base_url="http://testserver/v1", http_client=http, max_retries=0
            )
            name = client.models.list().data[0].id
            region = {"type": "region", "region": {"type": "box", "x1": 60, "y1": 60, "x2": 180, "y2": 180}}
            parts = [
                {"type": "image_url", "image_url": {"url": make.data_url(make.png(drawn))}},
                {"type": "text", "text": "What is"},
                region,
                {"type": "text", "text": "?"},
            ]
            asked = {"model": name, "messages": [{"role": "user", "content": parts}], "max_tokens": 24}
            whole = client.chat.completions.create(**asked)
            text = whole.choices[0].message.content
            assert text
            assert whole.grounding["image"] == {"width": 320, "height": 240}
            streamed = list(client.chat.completions.create(**asked, stream=True))
            shown = "".join(chunk.choices[0].delta.content or "" for chunk in streamed)
            assert shown == text
            assert streamed[-1].grounding["text"] == text
            turns = [
                *asked["messages"],
                {"role": "assistant", "content": text},
                {"role": "user", "content": "What colour?"},
            ]
            assert client.chat.completions.create(**{**asked, "messages": turns}).choices[0].message.content


def test_label_studio_is_answered_by_the_same_engine(client):
    import base64
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "PNG")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    config = (
        '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
        '<Label value="cat"/></RectangleLabels></View>'
    )
    reply = client.post(
        "/label-studio/predict", json={"tasks": [{"id": 1, "data": {"image": url}}], "label_config": config}
    )
    assert reply.status_code == 200, reply.text
    (result,) = reply.json()["results"]
    assert result["model_version"].startswith("openferret ")


def test_head_is_get_without_a_body(client):
    for path in ("/", "/health/live", "/v1/models"):
        assert client.head(path).status_code == 200
    assert client.head("/nowhere").status_code == 404
