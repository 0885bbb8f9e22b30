"""Drawing on the page with mouse, finger and keyboard."""

import numpy as np
import pytest

from openferret.masks import decode_rle


def test_regions_of_each_kind_reach_the_server_where_they_were_drawn(page, hand):
    place = hand.place_of(page)
    hand.tool(page, "Point")
    page.mouse.click(*place(200, 50))
    hand.tool(page, "Box")
    hand.drag(page, place, (20, 30), (120, 90))
    hand.tool(page, "Scribble")
    hand.drag(page, place, (40, 150), (140, 150))
    hand.tool(page, "Lasso or polygon")
    hand.drag(page, place, (200, 120), (300, 120), (300, 200), (200, 200), (201, 125))
    for corner in ((200, 20), (300, 20), (250, 90), (200, 20)):
        page.mouse.click(*place(*corner))
    assert page.locator("#regions li").count() == 5
    point, box, scribble, lasso, polygon = hand.ask(page, "/v1/refer")["regions"]
    assert (point["x"], point["y"]) == pytest.approx((200, 50), abs=1)
    assert [box[side] for side in ("x1", "y1", "x2", "y2")] == pytest.approx([20, 30, 120, 90], abs=1.5)
    mask = decode_rle(scribble["rle"])
    assert mask.shape == (hand.HEIGHT, hand.WIDTH)
    rows, columns = np.nonzero(mask)
    brush = hand.HEIGHT / 14
    assert mask[150, 90]
    assert (rows.min(), rows.max()) == pytest.approx((150 - brush / 2, 150 + brush / 2), abs=2)
    assert (columns.min(), columns.max()) == pytest.approx((40 - brush / 2, 140 + brush / 2), abs=2)
    assert {lasso["type"], polygon["type"]} == {"polygon"}
    assert np.ptp(lasso["points"], axis=0) == pytest.approx([100, 80], abs=2)
    assert polygon["points"] == [pytest.approx(one, abs=1) for one in ((200, 20), (300, 20), (250, 90))]


@pytest.mark.slow
def test_brush_goes_on_where_it_touches_and_eraser_takes_away(page, hand):
    place = hand.place_of(page)
    hand.tool(page, "Scribble")
    hand.drag(page, place, (40, 100), (200, 100))
    hand.drag(page, place, (120, 60), (120, 140))
    assert page.locator("#regions li").count() == 1
    hand.tool(page, "Eraser")
    hand.drag(page, place, (160, 80), (160, 120))
    mask = decode_rle(hand.ask(page, "/v1/refer")["region"]["rle"])
    assert mask[100, 60]
    assert mask[65, 120]
    assert mask[100, 195]
    assert not mask[100, 160]
    page.keyboard.press("Control+z")
    page.locator("#regions button").first.click()
    assert decode_rle(hand.ask(page, "/v1/refer")["region"]["rle"])[100, 160]


@pytest.mark.slow
def test_undo_and_redo_also_change_the_question(page, hand):
    hand.draw_box(page)
    place = hand.place_of(page)
    hand.tool(page, "Point")
    page.mouse.click(*place(250, 200))
    shelf, chips = page.locator("#regions li"), page.locator("#question .chip")
    seen = []
    for key in ("", "Control+z", "Control+z", "Control+z", "Control+Shift+z", "Control+y", "Delete"):
        if key:
            page.keyboard.press(key)
        seen.append((shelf.count(), chips.count()))
    assert seen == [(2, 2), (1, 1), (0, 0), (0, 0), (1, 1), (2, 2), (1, 1)]
    assert page.locator("#undo").is_enabled()


@pytest.mark.slow
def test_typed_numbers_become_chips_and_stand_in_the_question_where_they_were_typed(page, hand):
    hand.draw_box(page)
    page.locator("#question").click()
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    page.keyboard.type("Is [1]a dog?")
    assert page.locator("#question .chip").count() == 1
    content = hand.ask(page, "/v1/chat/completions")["messages"][0]["content"]
    assert [part["type"] for part in content] == ["image_url", "text", "region", "text"]
    assert (content[1]["text"], content[3]["text"].strip()) == ("Is ", "a dog?")


@pytest.mark.slow
def test_all_of_it_can_be_done_with_the_keyboard(page, hand):
    page.locator("#canvas").focus()
    page.keyboard.press("b")
    page.keyboard.press("Space")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    with page.expect_request("**/v1/refer") as sent:
        page.keyboard.press("Enter")
    corners = [sent.value.post_data_json["region"][side] for side in ("x1", "y1", "x2", "y2")]
    assert corners == pytest.approx([160, 120, 192, 152])
    hand.wait_for_answers(page)
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('phrase')"):
            break
    page.keyboard.press("Enter")
    assert page.locator(".phrase[aria-pressed=true]").count() == 1
    page.keyboard.press("?")
    assert page.locator("#help[open]").count() == 1


def zoom(page):
    return float(page.locator("#zoom-fit").inner_text().rstrip(" %"))


@pytest.mark.slow
def test_zoom_and_pan_move_the_picture_and_not_what_is_drawn(page, hand):
    place = hand.place_of(page)
    before = np.subtract(place(160, 120), place(0, 0))
    unzoomed = zoom(page)
    page.mouse.move(*place(160, 120))
    page.mouse.wheel(0, -200)
    assert hand.soon(page, lambda: zoom(page) > 1.5 * unzoomed)
    middle, scale = place(160, 120), 1.25**2
    hand.tool(page, "Move")
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 60, middle[1] + 40, steps=4)
    page.mouse.up()
    hand.tool(page, "Box")

    def moved(x, y):
        return tuple(
            at + shift + scale * size * (part - whole / 2) / (whole / 2)
            for at, shift, size, part, whole in zip(
                middle, (60, 40), before, (x, y), (hand.WIDTH, hand.HEIGHT), strict=True
            )
        )

    hand.drag(page, moved, (140, 100), (180, 150))
    box = hand.ask(page, "/v1/refer")["region"]
    assert [box[side] for side in ("x1", "y1", "x2", "y2")] == pytest.approx([140, 100, 180, 150], abs=1.5)


@pytest.mark.slow
def test_two_fingers_zoom_and_draw_nothing(opened, hand):
    page = hand.give_picture(opened(viewport={"width": 400, "height": 800}, has_touch=True))
    x, y = hand.place_of(page)(160, 120)
    before = zoom(page)
    fingers = page.context.new_cdp_session(page)

    def touch(kind, *places):
        points = [{"x": at, "y": y, "id": number} for number, at in enumerate(places)]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    hand.tool(page, "Box")
    touch("touchStart", x - 20)
    touch("touchStart", x - 20, x + 20)
    for reach in range(25, 65, 5):
        touch("touchMove", x - reach, x + reach)
    touch("touchEnd")
    assert hand.soon(page, lambda: zoom(page) > 1.5 * before)
    assert page.locator("#regions li").count() == 0
