"""Each family: random weights answer every question, and what the real ones write is read exactly."""

import json

import pytest
from PIL import Image

from openferret.errors import InputError
from openferret.eval.peers import load_peer
from openferret.eval.questions import Question, Spot

FOLDERS = ["kosmos_folder", "florence_folder", "qwen25_folder", "qwen3_folder"]
BOX = Spot("box", (0.25, 0.25, 0.5, 0.75))
GROUND = Question("g", "p", "ground", phrases=("a dog",), merge=True, forced=True)
BOTH = Question("b", "p", "ground", phrases=("a dog", "a cat"))
REFER = Question("r", "p", "ask", "What is [0]?", spots=(BOX,))
POINT = Question("t", "p", "ask", "What is [0]?", spots=(Spot("point", (0.5, 0.5)),))
FREE = Question("f", "p", "ask", "Is there a dog <OD> in the image?")
CAPTION = Question("d", "p", "describe", "Describe the picture.")
PICTURE = Image.new("RGB", (200, 100), "green")


@pytest.fixture(scope="module")
def peers(request):
    opened = {}

    def get(name):
        if name not in opened:
            peer = load_peer(request.getfixturevalue(name))
            peer._longest = 6
            opened[name] = peer
        return opened[name]

    return get


def says(peer, monkeypatch, *texts):
    """The peer writes these words, whatever it is asked; returns what it was asked."""
    asked, remaining = [], list(texts)

    def say(shown, prompt):
        asked.append(prompt)
        return remaining.pop(0)

    monkeypatch.setattr(peer, "_say", say)
    return asked


def boxes(reply):
    return [[box.normalized for box in one.boxes] for one in reply.answer.mentions]


@pytest.mark.parametrize("name", FOLDERS)
def test_random_weights_answer_every_question_the_same_each_time(peers, name):
    peer = peers(name)
    asked = [GROUND, BOTH, REFER, POINT, FREE, CAPTION]
    first, second = (peer.answer(peer.look(PICTURE), asked) for _ in range(2))
    assert first == second
    for question, reply in zip(asked, first, strict=True):
        if name == "florence_folder" and question is FREE:
            assert "no task" in reply.error
            continue
        assert reply.error is None
        assert (reply.answer.width, reply.answer.height) == PICTURE.size
        assert reply.dialect == peer.dialect
        if question.verb == "ground":
            assert [one.phrase for one in reply.answer.mentions] == list(question.phrases)
    card = peer.card().to_dict()
    assert len(card["digest"]) == 16
    assert card["settings"]["dtype"] == "float32"


def test_kosmos_is_asked_in_its_words_and_read(peers, monkeypatch):
    peer = peers("kosmos_folder")
    asked = says(
        peer,
        monkeypatch,
        "<object><patch_index_0000><patch_index_0495></delimiter_of_multi_objects/>"
        "<patch_index_0033><patch_index_0033></object> sits there",
        " runs.<phrase> a cat</phrase><object><patch_index_0000><patch_index_0495></object>",
        "<phrase> a dog</phrase><object><patch_index_0000><patch_index_0495></object>.",
        " a dog.",
        "No.",
        "<phrase> a dog</phrase><object><patch_index_0005><patch_index_0911></object> by a fire.",
    )
    replies = peer.answer(PICTURE, [BOTH, GROUND, REFER, FREE, CAPTION])
    assert asked == [
        "<grounding><phrase> a dog</phrase>",
        "<grounding><phrase> a cat</phrase>",
        "<grounding><phrase> a dog</phrase>",
        "<grounding><phrase> It</phrase><object><patch_index_0264><patch_index_0751></object> is",
        "<grounding> Question: Is there a dog OD in the image? Answer:",
        "<grounding> An image of",
    ]
    half, cell = (1 / 64, 1 / 64, 31 / 64, 31 / 64), (1 / 32, 1 / 32, 2 / 32, 2 / 32)
    assert boxes(replies[0]) == [[pytest.approx(half), pytest.approx(cell)], []]
    assert "a cat: not in the picture" in replies[0].text
    assert boxes(replies[1]) == [[]]  # what it wrote next was another phrase, not a box
    assert replies[2].text == "a dog."
    assert replies[3].text == "No."
    assert replies[4].text == "a dog by a fire."
    assert boxes(replies[4]) == [[pytest.approx((0.171875, 0.015625, 0.484375, 0.890625))]]


def test_florence_is_asked_by_its_tasks_and_read(peers, monkeypatch):
    peer = peers("florence_folder")
    asked = says(
        peer,
        monkeypatch,
        "</s><s>A dog<loc_0><loc_0><loc_499><loc_999><loc_1><loc_1><loc_9><loc_9>a man<loc_5><loc_5></s>",
        "<s>something<loc_0><loc_0><loc_99><loc_99><loc_500><loc_500><loc_599><loc_999></s>",
        "</s><s>a brown dog</s><pad>",
        "<s>A dog and a man.</s>",
        "<s>a man<loc_0><loc_0><loc_99><loc_99>a dog<loc_5><loc_5><loc_9><loc_9></s>",
    )
    replies = peer.answer(PICTURE, [BOTH, GROUND, REFER, CAPTION])
    assert asked == [
        "<CAPTION_TO_PHRASE_GROUNDING>a dog, a cat",
        "<CAPTION_TO_PHRASE_GROUNDING>a dog",
        "<REGION_TO_CATEGORY><loc_250><loc_250><loc_500><loc_750>",
        "<CAPTION>",
        "<CAPTION_TO_PHRASE_GROUNDING>A dog and a man.",
    ]
    assert boxes(replies[0])[0][0] == pytest.approx((0.0005, 0.0005, 0.4995, 0.9995))
    assert boxes(replies[0])[1] == []
    assert boxes(replies[1]) == [[pytest.approx((0.0005, 0.0005, 0.5995, 0.9995))]]  # merged
    assert replies[2].text == "a brown dog"
    (man,) = replies[3].answer.mentions
    assert (man.phrase, man.span) == ("a man", (10, 15))


@pytest.mark.parametrize(("name", "seen"), [("qwen25_folder", (168, 84)), ("qwen3_folder", (1000, 1000))])
def test_qwen_counts_in_pixels_or_in_thousandths(peers, monkeypatch, name, seen):
    peer = peers(name)

    def spell(*objects):
        scale = (*seen, *seen)
        content = [
            {"bbox_2d": [round(a * b) for a, b in zip(box, scale, strict=True)], "label": label}
            for label, box in objects
        ]
        return f"```json\n{json.dumps(content)}\n```"

    dog, cat = ("a dog", (0.25, 0.25, 0.5, 0.75)), ("A cat", (0, 0, 1, 1))
    asked = says(
        peer,
        monkeypatch,
        spell(cat, dog),
        spell(dog, ("one", (0, 0, 0.25, 0.25))),
        "A dog.",
        "A dog.",
        spell(dog),
    )
    replies = peer.answer(PICTURE, [BOTH, GROUND, REFER, CAPTION])
    assert boxes(replies[0]) == [[pytest.approx(dog[1])], [pytest.approx(cat[1])]]
    assert boxes(replies[1]) == [[pytest.approx((0, 0, 0.5, 0.75))]]
    place = "[42, 21, 84, 63]" if name == "qwen25_folder" else "[250, 250, 500, 750]"
    assert f"region {place}" in asked[2]
    assert ("168 wide and 84 high" in asked[0]) == (name == "qwen25_folder")
    assert "in one box" not in asked[0]
    assert 'names? "A dog."' in asked[4]
    assert replies[3].text == "A dog."
    assert boxes(replies[3]) == [[pytest.approx(dog[1])]]


def test_qwen_sees_as_many_tokens_as_its_picture_has(peers):
    seen = peers("qwen25_folder")._see(PICTURE)
    assert (seen.width, seen.height, seen.tokens) == (168, 84, 18)


@pytest.mark.parametrize("content", ['{"model_type": "llama"}', "[]", "{", '{"model_type": "kosmos-2"}'])
def test_a_folder_that_cannot_be_used_is_one_line(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError) as error:
        load_peer(tmp_path)
    assert "\n" not in str(error.value)


def test_a_device_that_is_not_there(qwen3_folder):
    with pytest.raises(InputError, match="cannot be opened"):
        load_peer(qwen3_folder, "cuda:77")
