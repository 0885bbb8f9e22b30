"""The page as a whole: narrow and dark, with failures, a key, and real Kit."""

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from openferret import Ferret

KEY = "a-key-of-thirty-two-letters-here"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_out_of_reach_at_400_pixels(opened, scheme, hand):
    page = opened(viewport={"width": 400, "height": 800}, color_scheme=scheme, has_touch=True)
    check_reach(page)
    hand.give_picture(page)
    check_reach(page)
    place = hand.place_of(page)
    page.touchscreen.tap(*place(150, 100))
    assert page.locator("#question .chip").count() == 1
    hand.ask(page, "/v1/refer")
    hand.ask(page, "/v1/describe", "#describe")
    check_reach(page)


def check_reach(page):
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    for button in page.locator(
        "header button:visible, #tools button:visible, #composer button:visible"
    ).all():
        box = button.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 400


@pytest.mark.slow
def test_dark_follows_the_system_until_it_is_chosen(opened):
    def shade(page):
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))

    dark, light = opened(color_scheme="dark"), opened(color_scheme="light")
    assert shade(dark) < 150 < 600 < shade(light)
    dark.click("#theme")
    dark.reload()
    assert shade(dark) > 600


@pytest.mark.slow
def test_failures_are_told_kindly_and_can_be_tried_again(opened, hand):
    page = hand.give_picture(opened(expected=("Failed to load resource", "net::")))
    page.route("**/v1/describe", lambda route: route.abort())
    page.click("#describe")
    notice = page.get_by_role("alert")
    notice.wait_for()
    assert "cannot be reached" in notice.inner_text()
    refusal = {"error": {"code": "busy", "message": "too many questions wait", "type": "x"}}
    page.route("**/v1/describe", lambda route: route.fulfill(status=429, json=refusal))
    page.get_by_role("button", name="Try again").click()
    page.get_by_text("Too many questions wait.").wait_for()
    page.unroute("**/v1/describe")
    page.get_by_role("button", name="Try again").click()
    hand.wait_for_answers(page)
    assert page.locator(".turn").count() == 1


@pytest.mark.slow
def test_what_is_not_a_picture_is_refused_kindly(page):
    page.set_input_files("#file", {"name": "cat.png", "mimeType": "image/png", "buffer": b"no picture"})
    page.get_by_text("is not a picture that this browser can open").wait_for()
    assert page.locator("#picture-name").inner_text() == "paint.png"


@pytest.mark.slow
def test_a_picture_that_the_server_forgot_is_sent_again(opened, server, hand):
    page = opened(expected=("404",))
    with page.expect_response("**/v1/images") as sent:
        hand.give_picture(page)
    page.request.delete(f"{server}v1/images/{sent.value.json()['id']}")
    hand.ask(page, "/v1/describe", "#describe")
    assert page.locator(".notice").count() == 0


@pytest.mark.slow
def test_a_question_can_be_stopped(page):
    page.route("**/v1/describe", lambda route: None)
    page.click("#describe")
    page.locator("#send").get_by_text("Stop").click()
    page.get_by_text("Stopped.").wait_for()
    assert page.locator("#describe").is_enabled()


@pytest.mark.slow
def test_pictures_are_pasted_and_dropped(opened, hand):
    page = opened()
    give = """([bytes, kind]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], `${kind}.png`, {type: 'image/png'}));
        const how = {bubbles: true, cancelable: true};
        document.body.dispatchEvent(kind === 'paste'
            ? new ClipboardEvent(kind, {clipboardData: data, ...how})
            : new DragEvent(kind, {dataTransfer: data, ...how}));
    }"""
    for kind in ("paste", "drop"):
        page.evaluate(give, [list(hand.painted_png()), kind])
        page.get_by_text(f"{kind}.png").wait_for()


@pytest.mark.slow
def test_a_picture_is_taken_with_the_camera(opened):
    page = opened()
    page.context.grant_permissions(["camera"])
    page.get_by_role("button", name="Use the camera").click()
    for _ in range(600):  # the page's content policy forbids Playwright to wait in the page itself
        if page.evaluate("document.querySelector('#camera video').videoWidth"):
            break
        page.wait_for_timeout(100)
    page.get_by_role("button", name="Take the picture").click()
    page.get_by_text("camera.jpg").wait_for()
    assert page.locator("#camera[open]").count() == 0
    assert page.evaluate("document.querySelector('#camera video').srcObject") is None


@pytest.mark.slow
def test_without_a_camera_it_is_said_so(opened):
    page = opened()
    page.evaluate("() => { navigator.mediaDevices.getUserMedia = () => Promise.reject(new Error()); }")
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_text("The camera cannot be used").wait_for()


@pytest.mark.slow
def test_example_pictures_come_with_questions(opened, hand):
    page = opened()
    page.get_by_role("button", name="A cup of espresso").click()
    with page.expect_request("**/v1/refer") as sent:
        page.get_by_role("button", name="What is this, beside the cup?").click()
    assert sent.value.post_data_json["region"]["type"] == "box"
    hand.wait_for_answers(page)


@pytest.mark.slow
def test_everything_that_can_be_pressed_has_a_name(page, hand):
    hand.draw_box(page)
    hand.ask(page, "/v1/refer")
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input, canvas, [role=button], [role=textbox]')]
            .filter((one) => !(one.ariaLabel || one.textContent.trim() || one.labels?.length || one.title))
            .map((one) => one.outerHTML)"""
    )
    assert nameless == []


@pytest.mark.slow
def test_a_server_with_a_key_is_used_through_the_browsers_own_sign_in(browser, lively, hand):
    with hand.serving(lively, keys=(KEY,)) as address:
        stranger = browser.new_context()
        assert [stranger.request.get(address + one).status for one in ("", "assets/app.js")] == [401, 401]
        stranger.close()
        context = browser.new_context(http_credentials={"username": "me", "password": KEY})
        page = context.new_page()
        page.goto(address)
        hand.give_picture(page)
        hand.ask(page, "/v1/describe", "#describe")
        context.close()


@pytest.mark.slow
def test_kit_answers_on_the_page(browser, hand):
    """Real Kit; `OPENFERRET_SCREENSHOTS=docs/images` keeps the pictures that it makes."""
    folder = os.environ.get("OPENFERRET_SCREENSHOTS")
    with hand.serving(Ferret.load().loaded, deadline=300.0) as address:
        for scheme, name in (("light", "page"), ("dark", "page-dark")):
            context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
            page = context.new_page()
            page.set_default_timeout(240_000)
            page.goto(address)
            page.get_by_role("button", name="A cup of espresso").click()
            page.locator("#workspace").wait_for()
            hand.tool(page, "Box")
            hand.drag(page, lambda x, y: (x, y), (303, 169), (592, 495))
            hand.ask(page, "/v1/refer")
            assert page.locator(".answer").inner_text()
            page.click("#mode-find")
            page.fill("#phrases", "a cup, a spoon, a wooden table, a dog")
            hand.ask(page, "/v1/ground")
            # Whatever Kit sees: each phrase is there, found or not.
            said = page.locator(".answer").last
            assert said.locator(".phrase, .absent").count() == 4
            found = said.locator(".phrase", has_text="cup").or_(said.locator(".phrase"))
            if scheme == "dark" and found.count():
                found.first.hover()
            page.wait_for_timeout(400)
            if folder:
                shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
                shot.quantize(256).save(Path(folder) / f"{name}.png", optimize=True)
            context.close()
