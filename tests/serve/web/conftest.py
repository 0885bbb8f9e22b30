"""A real browser on the real server: a tiny random model, and a picture of one colour."""

import io
import os
import shutil
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import uvicorn
from PIL import Image

from openferret.serve.app import ServerSettings, create_app
from openferret.serve.engine import Engine
from openferret.serve.page import DIST

PAINT = (255, 0, 255)  # found again on the screen
WIDTH, HEIGHT = 320, 240
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def serving(loaded, **settings):
    """The address of a server in a thread of its own."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        app = create_app(Engine(loaded), ServerSettings(**settings))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        server.should_exit = True
        thread.join(20)


def soon(page, check):
    """Whether a check holds before long: what is seen follows a hand later, on a busy machine much later."""
    for _ in range(400):
        if check():
            return True
        page.wait_for_timeout(50)
    return False


def painted_png():
    held = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), PAINT).save(held, "PNG")
    return held.getvalue()


def give_picture(page, name="paint.png"):
    page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": painted_png()})
    page.locator("#workspace").wait_for()
    page.wait_for_timeout(100)
    return page


def place_of(page):
    """The way from pixels of the picture to pixels of the screen, found by looking at the screen."""
    corner = page.locator("#canvas").bounding_box()
    shot = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"), dtype=int)
    rows, columns = np.nonzero(np.abs(shot - PAINT).sum(axis=2) < 12)
    left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    assert left >= corner["x"]
    assert abs((right - left) / (bottom - top) - WIDTH / HEIGHT) < 0.02
    scale = (right - left) / WIDTH
    return lambda x, y: (left + x * scale, top + y * scale)


def drag(page, place, *points):
    page.mouse.move(*place(*points[0]))
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*place(*point), steps=4)
    page.mouse.up()


def tool(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def wait_for_answers(page, count=1):
    page.locator(".actions").nth(count - 1).wait_for()


def ask(page, path, press="#send"):
    """Presses a button and waits for the answer; what was sent."""
    count = page.locator(".actions").count() + 1
    with page.expect_request(lambda request: path in request.url) as sent:
        page.click(press)
    wait_for_answers(page, count)
    return sent.value.post_data_json


def exported(page, kind):
    page.click("#export")
    with page.expect_download() as waiting:
        page.click(f"#export-{kind}")
    return Path(waiting.value.path()).read_bytes()


def draw_box(page, corners=(40, 30, 160, 120)):
    place = place_of(page)
    tool(page, "Box")
    drag(page, place, corners[:2], corners[2:])


def place_by_twin(page):
    """`place_of` for a picture that has been drawn on, by its empty twin in another tab."""
    twin = page.context.new_page()
    twin.goto(page.url)
    place = place_of(give_picture(twin))
    twin.close()
    return place


@pytest.fixture(scope="session")
def hand():
    """What is done with a page again and again."""
    return SimpleNamespace(
        WIDTH=WIDTH,
        HEIGHT=HEIGHT,
        serving=serving,
        soon=soon,
        painted_png=painted_png,
        give_picture=give_picture,
        place_of=place_of,
        place_by_twin=place_by_twin,
        drag=drag,
        tool=tool,
        draw_box=draw_box,
        ask=ask,
        wait_for_answers=wait_for_answers,
        exported=exported,
    )


@pytest.fixture(scope="module")
def server(browser, lively):
    with serving(lively) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    reason = "the page is tested with playwright (pip install playwright)"
    playwright = pytest.importorskip("playwright.sync_api", reason=reason)
    if CHROMIUM is None:
        pytest.skip("the page is tested with chromium (apt-get install chromium), and none was found")
    if not (DIST / "index.html").is_file():
        pytest.skip("the page is not built: run scripts/build_page.py")
    # Chromium refuses its sandbox to root.
    alone = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                *(*alone, "--disable-background-networking", "--disable-gpu"),
                *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
            ],
        )
        yield launched
        launched.close()


@pytest.fixture
def opened(browser, server):
    """Opens pages; none may speak to another host, break its content policy or write an error."""
    contexts, wrong = [], []

    def build(address=server, expected=(), **options):
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 800}} | options))
        contexts.append(context)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.set_default_timeout(60_000)

        def listen(message):
            if message.type in ("error", "warning") and not any(one in message.text for one in expected):
                wrong.append(message.text)

        def leave(request):
            if not request.url.startswith((address, "blob:", "data:")):
                wrong.append(f"asked {request.url}")

        page.on("console", listen)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", leave)
        page.goto(address)
        page.locator("#model").get_by_text("tiny").wait_for(state="attached")
        return page

    yield build
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture
def page(opened):
    """The page with the one-colour picture on it."""
    return give_picture(opened())
