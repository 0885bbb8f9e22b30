"""Answers on the page: as they arrive, with their boxes, and as files and code."""

import io
import json
from itertools import pairwise

import pytest
from PIL import Image

from openferret import Ferret
from openferret.answer import Answer
from openferret.exporters import to_coco


@pytest.mark.slow
def test_a_conversation_sends_its_earlier_turns(page, hand):
    page.fill("#question", "what is in the picture?")
    hand.ask(page, "/v1/chat/completions")
    page.fill("#question", "and the dog?")
    messages = hand.ask(page, "/v1/chat/completions")["messages"]
    assert [one["role"] for one in messages] == ["user", "assistant", "user"]
    first = json.loads(hand.exported(page, "json"))["turns"][0]["answers"][0]["text"]
    assert messages[1]["content"] == first.strip()
    assert (
        sum(
            part["type"] == "image_url"
            for one in messages
            if one["role"] == "user"
            for part in one["content"]
        )
        == 1
    )


def test_answers_are_shown_as_they_are_written(page, hand):
    page.evaluate(
        """() => {
            window.drafts = new Set();
            const look = () => document.querySelectorAll('.draft-text').forEach((one) => drafts.add(one.textContent));
            new MutationObserver(look).observe(document.querySelector('#log'),
                {childList: true, subtree: true, characterData: true});
        }"""
    )
    hand.ask(page, "/v1/describe", "#describe")
    drafts = sorted(page.evaluate("[...window.drafts]"), key=len)
    answer = json.loads(hand.exported(page, "json"))["turns"][0]["answers"][0]
    assert len(drafts) > 2
    assert all(later.startswith(earlier) for earlier, later in pairwise(drafts))
    assert page.locator(".answer").inner_text().strip().startswith(drafts[1][:3].strip())
    assert answer["text"].strip()
    assert page.locator(".timings summary").inner_text().endswith("s")


@pytest.mark.slow
def test_a_thorough_description_is_chosen_from_nine(page, hand):
    assert hand.ask(page, "/v1/describe", "#describe")["stream"] is True
    page.get_by_role("button", name="Settings").click()
    page.check("#thorough")
    page.keyboard.press("Escape")
    sent = hand.ask(page, "/v1/describe", "#describe")
    assert sent["drafts"] == 9
    assert "stream" not in sent
    assert json.loads(hand.exported(page, "json"))["turns"][1]["answers"][0]["text"].strip()
    page.get_by_role("button", name="The same in Python and curl").last.click()
    page.locator("#code[open]").wait_for()
    assert "scene.describe(drafts=9)" in page.locator("#code pre").inner_text()


def test_words_and_boxes_light_each_other_up(page, hand):
    hand.draw_box(page)
    hand.ask(page, "/v1/refer")
    answer = json.loads(hand.exported(page, "json"))["turns"][0]["answers"][0]
    mention = next(one for one in answer["mentions"] if one["boxes"])
    phrase = page.locator(".phrase").first
    place = hand.place_by_twin(page)
    before = page.locator("#canvas").screenshot()
    phrase.hover()
    assert hand.soon(page, lambda: page.locator("#canvas").screenshot() != before)
    page.mouse.move(5, 5)
    assert hand.soon(page, lambda: page.locator("#canvas").screenshot() == before)
    x1, y1, x2, y2 = mention["boxes"][0]["pixels"]
    page.mouse.move(*place((x1 + x2) / 2, (y1 + y2) / 2))
    page.locator(".phrase.lit").first.wait_for()
    page.mouse.move(5, 5)
    assert hand.soon(page, lambda: page.locator(".phrase.lit").count() == 0)
    phrase.click()
    page.mouse.move(5, 5)
    assert phrase.get_attribute("aria-pressed") == "true"
    page.keyboard.press("Escape")
    assert phrase.get_attribute("aria-pressed") == "false"


def test_exports_are_what_the_library_writes(page, hand):
    hand.draw_box(page)
    hand.ask(page, "/v1/refer")
    hand.ask(page, "/v1/detect", "#detect")
    conversation = json.loads(hand.exported(page, "json"))
    assert conversation["image"] == {"file_name": "paint.png", "width": hand.WIDTH, "height": hand.HEIGHT}
    assert [turn["asked"] for turn in conversation["turns"]] == ["refer", "detect"]
    assert conversation["turns"][0]["regions"][0]["type"] == "box"
    page.click("[data-shown=all]")
    answers = [Answer.from_dict(one) for turn in conversation["turns"] for one in turn["answers"]]
    # One picture here, one for each answer there.
    theirs = to_coco([("paint.png", one) for one in answers])
    ours = json.loads(hand.exported(page, "coco"))
    assert ours["categories"] == theirs["categories"]
    assert ours["images"] == theirs["images"][:1]
    for mine, yours in zip(ours["annotations"], theirs["annotations"], strict=True):
        assert mine.pop("bbox") == pytest.approx(yours.pop("bbox"))
        assert mine.pop("area") == pytest.approx(yours.pop("area"))
        assert mine | {"image_id": 0} == yours | {"image_id": 0}
    drawn = Image.open(io.BytesIO(hand.exported(page, "png")))
    assert drawn.width == 960
    assert drawn.height > 720
    assert len(drawn.convert("RGB").getcolors(1 << 20)) > 10


@pytest.mark.slow
def test_score_threshold_hides_boxes(page, hand):
    hand.draw_box(page)
    hand.ask(page, "/v1/detect", "#detect")
    scores = [one["score"] for one in json.loads(hand.exported(page, "coco"))["annotations"]]
    assert scores
    between = int(100 * max(scores)) + 1
    page.locator("#threshold").fill(str(min(99, between)))
    kept = [one["score"] for one in json.loads(hand.exported(page, "coco"))["annotations"]]
    assert kept == [score for score in scores if score >= min(99, between) / 100]
    page.click("[data-shown=none]")
    assert not json.loads(hand.exported(page, "coco"))["annotations"]


@pytest.mark.slow
def test_python_that_is_copied_gives_the_same_answer(page, lively, tmp_path, monkeypatch, capsys, hand):
    hand.draw_box(page)
    page.locator("#question").click()
    page.keyboard.type("is what?")
    hand.ask(page, "/v1/chat/completions")
    page.get_by_role("button", name="The same in Python and curl").click()
    page.locator("#code[open]").wait_for()
    page.click("#code-copy")
    code = page.evaluate("navigator.clipboard.readText()")
    page.click("#code-curl")
    assert "/v1/chat/completions" in page.locator("#code pre").inner_text()
    (tmp_path / "paint.png").write_bytes(hand.painted_png())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Ferret, "load", lambda: Ferret(lively))
    exec(compile(code, "copied", "exec"), {})
    said = page.locator(".answer").evaluate("one => one.textContent")
    assert "".join(said.split())[:20] in "".join(capsys.readouterr().out.split())


def test_markup_of_models_and_files_is_shown_as_text(page, hand):
    markup = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>"
    hand.give_picture(page, "<b onclick=hacked()>cat</b>.png")
    page.click("#mode-find")
    page.fill("#phrases", markup)
    hand.ask(page, "/v1/ground")
    assert markup in page.locator(".answer").inner_text()
    assert "<b onclick" in page.locator("#picture-name").inner_text()
    assert page.locator("#log img, #log script, #picture-name b").count() == 0
    assert page.evaluate("window.hacked") is None
