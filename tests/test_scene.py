from __future__ import annotations

import numpy as np
import pytest

from openferret.errors import InputError
from openferret.generation.decode import Generated
from openferret.generation.locating import separate_objects
from openferret.predictor import Ferret
from openferret.regions import Box, Mask, Point, Polygon, Scribble

PICTURE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
REGIONS = [
    Point(30, 20),
    Box(5, 5, 50, 30),
    Scribble([(2, 2), (50, 10)]),
    Polygon([(0, 0), (59, 0), (30, 39)]),
    Mask(np.eye(40, 60)),
]


@pytest.fixture(scope="module")
def kit(tiny):
    return Ferret(tiny.loaded("kit")).encode(PICTURE)


@pytest.fixture(scope="module")
def paper(tiny):
    return Ferret(tiny.loaded("paper")).encode(PICTURE)


@pytest.fixture(params=["kit", "paper"])
def scene(request):
    return request.getfixturevalue(request.param)


def says(scene, monkeypatch, *texts):
    """The scene's model writes these answers, whatever it is asked; returns the questions it was asked."""
    from openferret import scene as home

    asked = []
    remaining = list(texts)

    def written(model, processor, prefix, questions, how):
        asked.extend("".join(processor.tokenizer.convert_ids_to_tokens(one.ids)) for one in questions)
        return [Generated(remaining.pop(0), (), (), (0.25, 1.0), True, {"decode": 0.0}) for _ in questions]

    monkeypatch.setattr(home, "decode", written)
    return asked


def test_every_kind_of_region_can_be_referred_to_alone_and_together(scene):
    together = scene.refer_many(REGIONS, max_new_tokens=5)
    for region, answer in zip(REGIONS, together, strict=True):
        alone = scene.refer(region, max_new_tokens=5)
        assert alone.text == answer.text
        assert (answer.width, answer.height) == (60, 40)
        assert {"encode", "prefill", "decode"} <= set(answer.timings)
        assert answer.model == scene.loaded.name


def test_what_is_this_names_the_region_itself(scene, monkeypatch):
    says(scene, monkeypatch, "a red ball")
    mention = scene.refer(Box(-10, 0, 30, 20)).mentions[0]
    assert (mention.phrase, mention.span) == ("a red ball", (0, 10))
    assert mention.boxes[0].pixels == (0, 0, 30, 20)
    assert mention.boxes[0].score == pytest.approx(0.5)


def test_a_question_of_ones_own_is_about_the_region(kit, monkeypatch):
    asked = says(kit, monkeypatch, "red", "red")
    answer = kit.refer(Point(30, 20), "what is in it?")
    kit.refer(Point(30, 20), "is [0] red?")
    place = "<loc_500><loc_500><region_fea>"
    assert asked[0].endswith(f"{place}: what is in <unk>?<|im_end|>\n<|im_start|>assistant\n")
    assert asked[1].startswith(f"is {place} red?")
    assert answer.mentions == ()
    with pytest.raises(InputError, match=r"region \[1\]"):
        kit.refer(Point(30, 20), "is [0] or [1] red?")
    with pytest.raises(InputError, match="empty"):
        kit.refer(Point(30, 20), " ")


def test_no_region_gives_no_answer(scene):
    assert scene.refer_many([]) == []


def test_phrases_are_grounded_in_order_together_as_alone(kit):
    phrases = ["a dog", "the  red ball ", "a man"]
    together = kit.ground(phrases, threshold=0.0)
    assert together.text == "a dog; the red ball; a man"
    assert [one.phrase for one in together.mentions] == ["a dog", "the red ball", "a man"]
    for mention in together.mentions:
        assert together.text[slice(*mention.span)] == mention.phrase
        alone = kit.ground(mention.phrase, threshold=0.0).mentions[0]
        assert len(alone.boxes) == len(mention.boxes) >= 1
        for one, other in zip(alone.boxes, mention.boxes, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-4)
            np.testing.assert_allclose(one.pixels, other.pixels, atol=0.01)


def test_a_phrase_that_is_not_there_is_said_not_to_be(kit):
    answer = kit.ground(["a dog", "a man"], threshold=1.0)
    assert answer.text == "a dog: not in the picture; a man: not in the picture"
    assert [one.boxes for one in answer.mentions] == [(), ()]
    assert answer.text[slice(*answer.mentions[1].span)] == "a man"


def test_merged_grounding_gives_one_box_a_phrase(kit):
    answer = kit.ground(["a dog", "a man"], merge=True, threshold=0.0)
    assert [len(one.boxes) for one in answer.mentions] == [1, 1]


def test_case_does_not_matter_to_kit_but_is_kept(kit):
    upper, lower = kit.ground("A DOG", threshold=0.0), kit.ground("a dog", threshold=0.0)
    assert upper.text == "A DOG"
    assert upper.mentions[0].boxes == lower.mentions[0].boxes


def test_a_model_that_writes_boxes_as_text_is_read(paper, monkeypatch):
    dogs = "the dogs are at [0, 0, 100, 500] and [500, 500, 999, 999]."
    asked = says(paper, monkeypatch, dogs, "no.", dogs)
    answer = paper.ground(["dogs", "a man"])
    assert answer.text == "dogs; a man: not in the picture"
    assert [len(one.boxes) for one in answer.mentions] == [2, 0]
    hull = paper.ground("dogs", merge=True).mentions[0].boxes
    np.testing.assert_allclose(hull[0].normalized, (0.0005, 0.0005, 0.9995, 0.9995))
    assert len(hull) == 1
    assert "location of" in asked[0]


@pytest.mark.parametrize("phrases", ["", "  ", [], ["a dog", " "]])
def test_an_empty_phrase_is_refused(scene, phrases):
    with pytest.raises(InputError, match="empty"):
        scene.ground(phrases)


@pytest.mark.parametrize("phrase", ["\ufdd0", "\x00", "\ud800", "<image>"])
def test_a_phrase_of_any_characters_is_looked_for(kit, phrase):
    assert kit.ground(phrase).mentions[0].phrase == phrase


def test_a_phrase_longer_than_the_locator_reads_is_cut_with_a_warning(kit):
    assert "too long" in kit.ground("dog " * 100_000).warnings[-1]
    assert kit.ground("dog").warnings == ()


def test_what_is_no_phrase_and_no_region_is_refused(scene):
    with pytest.raises(InputError, match="a phrase must be str"):
        scene.ground([5])
    with pytest.raises(InputError, match="a region must be Point or Box"):
        scene.refer((1, 2, 3, 4))
    with pytest.raises(InputError, match="phrases must be a list"):
        scene.ground(None)
    with pytest.raises(InputError, match="a question must be str"):
        scene.refer(Point(1, 2), 5)


def test_one_region_where_several_are_wanted_is_refused(scene):
    for ask in (scene.refer_many, lambda regions: scene.ask("what is [0]?", regions), scene.chat().say):
        with pytest.raises(InputError, match=r"must be a list, such as \[Box|a question must be str"):
            ask(Box(1, 2, 30, 40))


@pytest.mark.parametrize("length", [0, -1, 1.5, None])
def test_an_answer_has_at_least_one_token(scene, length):
    with pytest.raises(InputError, match="max_new_tokens"):
        scene.ask("what?", max_new_tokens=length)
    with pytest.raises(InputError, match="max_new_tokens"):
        scene.chat().say("what?", max_new_tokens=length)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), "high"])
def test_a_threshold_is_a_probability(scene, threshold):
    with pytest.raises(InputError, match="threshold"):
        scene.ground("a dog", threshold=threshold)
    with pytest.raises(InputError, match="threshold"):
        scene.detect(threshold=threshold)


def test_everything_is_named_and_grouped_by_name(kit, monkeypatch):
    encoded = kit.prefix.encoded
    distinct, count = encoded.object_distinct[0], int(encoded.object_distinct.sum())
    order = encoded.object_scores[0][distinct].argsort(descending=True)
    men = separate_objects(encoded.object_boxes[0][distinct][order][1:])
    says(kit, monkeypatch, "a dog.", *["a man"] * (count - 1))
    answer = kit.detect(threshold=0.0)
    assert {one.phrase: len(one.boxes) for one in answer.mentions} == {"a dog": 1, "a man": len(men)}
    scores = [box.score for mention in answer.mentions for box in mention.boxes]
    assert max(scores) == answer.mentions[0].boxes[0].score
    assert answer.text == "a dog; a man"


def test_one_thing_is_not_named_twice(kit, monkeypatch):
    from openferret import scene as home

    count = int(kit.prefix.encoded.object_distinct.sum())
    assert count > 2
    monkeypatch.setattr(home, "separate_objects", lambda boxes: list(range(len(boxes)))[::2])
    says(kit, monkeypatch, *["a man"] * count)
    (men,) = kit.detect(threshold=0.0).mentions
    scores = [box.score for box in men.boxes]
    assert len(scores) == (count + 1) // 2
    assert scores == sorted(scores, reverse=True)


def test_nothing_certain_enough_is_nothing_found(kit):
    answer = kit.detect(threshold=1.0)
    assert (answer.text, answer.mentions) == ("nothing found", ())


def test_a_model_without_proposals_names_what_it_describes(paper, monkeypatch):
    says(paper, monkeypatch, "a dog [0, 0, 500, 500] is there")
    assert paper.detect().mentions[0].phrase == "a dog"


def test_questions_use_regions_by_number(scene):
    answer = scene.ask("what is [0] and [1]?", [Point(1, 1), Box(50, 30, 90, 60)], max_new_tokens=4)
    assert answer.warnings == ("the box reached outside the 60 x 40 picture and was clipped",)
    with pytest.raises(InputError, match=r"region \[3\], but there are only 1"):
        scene.ask("what is [3]?", [Point(1, 1)])
    with pytest.raises(InputError, match=r"region \[0\], but there are none"):
        scene.ask("what is [0]?")


def test_descriptions_and_long_questions_end(scene):
    assert scene.describe(max_new_tokens=3).text is not None
    assert any("too long" in one for one in scene.ask("dog " * 100_000, max_new_tokens=2).warnings)


def test_of_several_drafts_the_one_that_tells_what_is_seen_is_given(kit, monkeypatch):
    from openferret import scene as home
    from openferret.generation import drafts

    asked = []

    def written(model, processor, prefix, questions, how):
        asked.append((len(questions), how.temperature))
        words = ["a dog", "a cat"] if how.temperature else ["a man"]
        return [
            Generated(f"<phrase>{one}<box><loc_0><loc_0><loc_9><loc_9>.", (1,), (0.5,), (0.5,), True, {})
            for one in words
        ]

    seen = {"a dog": 0.9, "a cat": 0.2, "a man": None}
    monkeypatch.setattr(home, "decode", written)
    monkeypatch.setattr(home, "seen_on", lambda encoded, nouns, phrase: seen[phrase])
    answer = kit.describe(drafts=3)
    assert answer.mentions[0].phrase == "a dog"
    assert asked == [(1, 0.0), (2, drafts.TEMPERATURE)]
    assert set(answer.timings) == {"encode", "describe"}
    for wrong in (0, 33, "nine"):
        with pytest.raises(InputError, match="drafts"):
            kit.describe(drafts=wrong)


def test_drafts_of_a_real_decoder_are_the_same_again(kit):
    assert kit.describe(drafts=3, max_new_tokens=6).text == kit.describe(drafts=3, max_new_tokens=6).text


def test_a_chat_remembers_and_reads_the_same_as_one_long_prompt(scene):
    processor, model = scene.loaded.processor, scene.loaded.model
    chat = scene.chat()
    first = chat.say("what is [0]?", [Point(5, 5)], max_new_tokens=5)
    second = chat.say("and [0]?", [Box(9, 9, 50, 30)], max_new_tokens=5)
    talk = processor.conversation
    words = [processor.region_words(one, 60, 40) for one in (Point(5, 5), Box(9, 9, 50, 30))]
    written = processor(PICTURE, talk.prompt(f"what is {words[0]}?"), [Point(5, 5)])
    length = written["input_ids"].shape[1]
    ids = model.generate(**written, max_new_tokens=5, do_sample=False)[0, length:].tolist()
    ids = ids[:-1] if ids[-1] in processor.stop_ids else ids
    said = processor.tokenizer.decode(ids)
    assert first.text == said.strip()
    before = talk.prompt(f"what is {words[0]}?") + said + talk.closing + talk.following
    whole = processor(PICTURE, before + f"and {words[1]}?" + talk.answer, [Point(5, 5), Box(9, 9, 50, 30)])
    length = whole["input_ids"].shape[1]
    ids = model.generate(**whole, max_new_tokens=5, do_sample=False)[0, length:]
    assert second.text == processor.tokenizer.decode(ids, skip_special_tokens=True).strip()


def test_a_chat_that_grows_too_long_forgets_its_earlier_turns(scene, monkeypatch):
    room = scene.prefix.length + 120
    monkeypatch.setattr(scene.loaded.model.config.text_config, "max_position_embeddings", room)
    chat = scene.chat()
    warnings = [
        warning for _ in range(6) for warning in chat.say("what is the dog?", max_new_tokens=20).warnings
    ]
    assert "the conversation grew too long; its earlier turns were forgotten" in warnings
    with pytest.raises(InputError, match="empty"):
        chat.say("")
    assert chat.say("what?", max_new_tokens=2).text is not None


def test_a_chat_forgets_nothing_for_the_sake_of_a_length_that_no_answer_has(scene):
    chat = scene.chat()
    chat.say("what is the dog?", max_new_tokens=4)
    with pytest.raises(InputError, match="max_new_tokens"):
        chat.say("and now?", max_new_tokens="5")
    room = chat._rows.room
    assert not chat.say("and now?", max_new_tokens=10**9).warnings
    assert chat._rows.room < room


def test_ranks_begin_with_the_merged_box_and_only_locators_have_them(kit, paper):
    ranked = kit.rank(["a Dog", "the red ball"], most=3)
    merged = kit.ground(["a Dog", "the red ball"], merge=True, threshold=0).mentions
    for boxes, mention in zip(ranked, merged, strict=True):
        assert boxes[0].pixels == pytest.approx(mention.boxes[0].pixels, abs=1e-3)
        assert 1 <= len(boxes) <= 3
    for phrases, most, says in (([" "], 3, "is empty"), (["a dog"], 0, "1 or more"), ([3], 3, "must be str")):
        with pytest.raises(InputError, match=says):
            kit.rank(phrases, most)
    with pytest.raises(InputError, match="no ranked"):
        paper.rank(["a dog"])


def test_one_phrase_is_ranked_as_one_and_not_letter_by_letter(kit):
    assert kit.rank("a dog", most=2) == kit.rank(["a dog"], most=2)
