import gc
import json
import time
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openferret.answer import Answer, LocatedBox, Mention, format_answer, parse_answer
from openferret.coordinates import bins_to_box, repair_bins
from openferret.errors import InputError
from openferret.regions import Box

Bins = tuple[int, int, int, int]


def read(raw: str) -> tuple[str, list[tuple[str, list[Bins]]]]:
    """Text and, for each mention, its phrase and boxes in bins (exact in a picture of 1000 x 1000)."""
    answer = parse_answer(raw, 1000, 1000)
    for mention in answer.mentions:
        assert answer.text[slice(*mention.span)] == mention.phrase
    return answer.text, [
        (m.phrase, [tuple(map(int, box.pixels)) for box in m.boxes]) for m in answer.mentions
    ]


@pytest.mark.parametrize(
    ("raw", "text", "mentions"),
    [
        ("cat [10, 20, 300, 400]", "cat", [("cat", [(10, 20, 300, 400)])]),
        ("A cat [10,20,300,400].", "A cat.", [("A cat", [(10, 20, 300, 400)])]),
        (
            "a cat [0, 0, 999, 999] and a dog [1, 2, 3, 4] .",
            "a cat and a dog.",
            [("a cat", [(0, 0, 999, 999)]), ("a dog", [(1, 2, 3, 4)])],
        ),
        (
            "a cat [1, 2, 3, 4], a dog [5, 6, 7, 8]",
            "a cat, a dog",
            [("a cat", [(1, 2, 3, 4)]), ("a dog", [(5, 6, 7, 8)])],
        ),
        (
            "Two kids [1, 2, 3, 4] [5, 6, 7, 8] run",
            "Two kids run",
            [("Two kids", [(1, 2, 3, 4), (5, 6, 7, 8)])],
        ),
        ("dogs [1, 2, 3, 4], [5, 6, 7, 8].", "dogs.", [("dogs", [(1, 2, 3, 4), (5, 6, 7, 8)])]),
        ("dogs [1, 2, 3, 4] and [5, 6, 7, 8] run", "dogs run", [("dogs", [(1, 2, 3, 4), (5, 6, 7, 8)])]),
        ("dogs [1,2,3,4; 5,6,7,8]", "dogs", [("dogs", [(1, 2, 3, 4), (5, 6, 7, 8)])]),
        ("[5, 5, 50, 50]", "", [("", [(5, 5, 50, 50)])]),
        ("no box", "no box", []),
        ("", "", []),
    ],
)
def test_the_text_form_is_read(raw: str, text: str, mentions: list[Any]) -> None:
    assert read(raw) == (text, mentions)


@pytest.mark.parametrize(
    ("raw", "text", "mentions"),
    [
        (
            "<phrase>a man<box><loc_1><loc_2><loc_3><loc_4><box><loc_5><loc_6><loc_7><loc_8> rides "
            "<phrase>a bike<box><loc_9><loc_9><loc_10><loc_10>.",
            "a man rides a bike.",
            [("a man", [(1, 2, 3, 4), (5, 6, 7, 8)]), ("a bike", [(9, 9, 10, 10)])],
        ),
        (
            "<s> <phrase> a man <box> <loc_1> <loc_2> <loc_3> <loc_4> waves</s>",
            "a man waves",
            [("a man", [(1, 2, 3, 4)])],
        ),
        (
            "it is a man<box><loc_1><loc_2><loc_3><loc_4> waving",
            "it is a man waving",
            [("a man", [(1, 2, 3, 4)])],
        ),
        ("<phrase>a man<box><loc_1><loc_2><loc_3> waves", "a man waves", []),
        ("<phrase>a man waves<|im_end|><pad><pad>", "a man waves", []),
        ("a man<loc_1><loc_2><loc_3><loc_4>and", "a man and", [("a man", [(1, 2, 3, 4)])]),
        (
            "<phrase>man in a hat<box><loc_1><loc_2><loc_3><loc_4>",
            "man in a hat",
            [("man in a hat", [(1, 2, 3, 4)])],
        ),
        ("<box><loc_1><loc_2><loc_3><loc_4>", "", [("", [(1, 2, 3, 4)])]),
        ("with<phrase>a hat<box>", "with a hat", []),
        (
            "<phrase>cat<box><loc_1><loc_2><loc_3><loc_4><phrase>dog<box><loc_5><loc_6><loc_7><loc_8>",
            "cat dog",
            [("cat", [(1, 2, 3, 4)]), ("dog", [(5, 6, 7, 8)])],
        ),
        (
            "<phrase>open, a man<box><loc_1> at a dog [1, 2, 3, 4]",
            "open, a man at a dog",
            [("a dog", [(1, 2, 3, 4)])],
        ),
    ],
)
def test_the_token_form_is_read(raw: str, text: str, mentions: list[Any]) -> None:
    assert read(raw) == (text, mentions)


def test_odd_numbers_become_a_box() -> None:
    _, mentions = read("a [-5, 10, 1200, 400] b [300, 400, 10, 20] c [0007, 99999999999999999999, 0, 0]")
    assert [boxes for _, boxes in mentions] == [[(0, 10, 999, 400)], [(10, 20, 300, 400)], [(0, 0, 7, 999)]]
    assert read("a<loc_12345><loc_1><loc_0><loc_1>")[1] == [("a", [(0, 1, 999, 1)])]


@pytest.mark.parametrize(
    "raw",
    [
        "cat [1, 2, 3]",
        "cat [1, 2, 3, 4, 5]",
        "cat [a, b, c, d]",
        "cat [1.5, 2, 3, 4]",
        "cat [10, 20, 300, 400",
        "at [120, 340] there",
        "cat [] [[]] ][",
        "x < y <loc_> <loc_a>",
        "[1, 2, 3, 4; 5, 6]",
    ],
)
def test_what_is_malformed_stays_text(raw: str) -> None:
    assert read(raw) == (raw, [])


def test_spaces_are_tidied_and_lines_kept() -> None:
    assert read(" a  cat [1, 2, 3, 4]\n\n is\there .\n ")[0] == "a cat\nis here ."


def test_scores_follow_the_boxes() -> None:
    answer = parse_answer(
        "dogs [1, 2, 3, 4] [5, 6, 7, 8] and [1, 2] a cat [1, 2, 3, 4]", 10, 10, scores=(0.5, None)
    )
    assert [[box.score for box in mention.boxes] for mention in answer.mentions] == [[0.5, None], [None]]


def test_boxes_are_in_pixels_and_0_to_1() -> None:
    (mention,) = parse_answer("cat [10, 20, 300, 400]", 640, 480).mentions
    assert mention.boxes[0].pixels == pytest.approx((10.5 * 0.64, 20.5 * 0.48, 300.5 * 0.64, 400.5 * 0.48))
    assert mention.boxes[0].normalized == pytest.approx((0.0105, 0.0205, 0.3005, 0.4005))


words = st.text("abc", min_size=1, max_size=4)
bins = st.tuples(*[st.integers(0, 999)] * 4).map(repair_bins)
segments = st.lists(st.tuples(words, st.lists(words, min_size=1), st.lists(bins, max_size=3)), max_size=5)


@given(segments, words)
def test_the_token_form_comes_back(parts: list[tuple[str, list[str], list[Bins]]], ending: str) -> None:
    text, mentions = "", []
    for before, phrase, boxes in parts:
        start = len(text) + len(before) + 1
        text += f"{before} {' '.join(phrase)} "
        if boxes:
            located = tuple(LocatedBox.of(bins_to_box(four, 640, 1480), 640, 1480) for four in boxes)
            mentions.append(Mention(text[start:-1], (start, len(text) - 1), located))
    answer = Answer(text + ending, tuple(mentions), 640, 1480)
    assert parse_answer(format_answer(answer, "tokens"), 640, 1480) == answer
    as_text = parse_answer(format_answer(answer, "text"), 640, 1480)
    assert as_text.text == answer.text
    assert [mention.boxes for mention in as_text.mentions] == [mention.boxes for mention in answer.mentions]


@pytest.mark.parametrize("size", [(640, 480), (100, 80), (3, 7), (5000, 1)])
@pytest.mark.parametrize("form", ["tokens", "text"])
def test_boxes_that_reach_the_far_edges_come_back(
    size: tuple[int, int], form: Literal["tokens", "text"]
) -> None:
    answer = parse_answer("a cat [0, 987, 998, 999]", *size)
    assert parse_answer(format_answer(answer, form), *size) == answer


pieces = st.sampled_from(
    [
        "<phrase>",
        "<box>",
        "<loc_1>",
        "<loc_77>",
        "<s>",
        "[1,2,3,4]",
        "[",
        "]",
        ",",
        ";",
        "and",
        " ",
        "\n",
        "a man",
    ]
)


@given(st.lists(pieces | st.text(max_size=5)).map("".join))
def test_any_output_gives_a_sound_answer(raw: str) -> None:
    answer = parse_answer(raw, 640, 480)
    assert answer.text == answer.text.strip()
    for mention in answer.mentions:
        assert answer.text[slice(*mention.span)] == mention.phrase
        for x1, y1, x2, y2 in (box.pixels for box in mention.boxes):
            assert 0 <= x1 <= x2 <= 640
            assert 0 <= y1 <= y2 <= 480
    assert Answer.from_dict(json.loads(json.dumps(answer.to_dict()))) == answer


MEGABYTE = 1_000_000


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "[",
            "]",
            "[1",
            "[1,2,3,4",
            "[1,2,3,4;",
            "1,2,3,4;",
            "[1,2,3,",
            "[1,2,3,4] ",
            "[1,2,3,4]a ",
            "1",
            "[ ",
        ),
        *("<", "<loc_", "<loc_1>", "<loc_1> ", "<box>", "<box> <", "<phrase>", "<phrase>a", "<|", "<pad> "),
        *(" ", "\n", "a ", "a, ", "and ", "é "),
    ],
)
def test_a_megabyte_of_anything_is_read_in_linear_time(unit: str) -> None:
    def seconds(size: int) -> float:
        raw = "a [1" + unit * (size // len(unit))
        # Collections would count every object of whatever else this process has loaded.
        gc.disable()
        start = time.process_time()
        parse_answer(raw, 640, 480)
        took = time.process_time() - start
        gc.enable()
        return took

    # The least of three: a neighbour on the machine slows a run down, and never speeds one up.
    quarter, whole = (min(seconds(size) for _ in range(3)) for size in (MEGABYTE // 4, MEGABYTE))
    assert whole < 8 * quarter + 0.25
    assert whole < 10


@pytest.mark.parametrize(
    "raw",
    ["[" * MEGABYTE, f"a [1, 2, 3, {'9' * MEGABYTE}]", "a<box>" + ("<loc_" + "9" * 250_000 + ">") * 4],
)
def test_hostile_output_takes_less_than_half_a_second(raw: str) -> None:
    start = time.process_time()
    parse_answer(raw, 640, 480)
    assert time.process_time() - start < 0.5


def test_the_json_form() -> None:
    answer = parse_answer(
        "a man [100, 100, 500, 500]", 1000, 1000, scores=[0.75], model="kit", timings={"prefill": 0.5}
    )
    assert answer.to_dict() == {
        "text": "a man",
        "image": {"width": 1000, "height": 1000},
        "mentions": [
            {
                "phrase": "a man",
                "span": [0, 5],
                "boxes": [
                    {
                        "pixels": [100.5, 100.5, 500.5, 500.5],
                        "normalized": [0.1005, 0.1005, 0.5005, 0.5005],
                        "score": 0.75,
                    }
                ],
            }
        ],
        "model": "kit",
        "timings": {"prefill": 0.5},
    }
    warned = parse_answer("yes", 4, 3, warnings=["the box was clipped"])
    assert warned.to_dict()["warnings"] == ["the box was clipped"]
    assert Answer.from_dict(warned.to_dict()) == warned
    assert str(answer) == "a man"
    assert {answer: 1}[answer] == 1


@pytest.mark.parametrize(
    "change",
    [
        {"text": "no"},
        {"image": {"width": 0, "height": 3}},
        {"image": None},
        {"image": {"width": float("inf"), "height": 3}},  # which JSON can write
        {"mentions": [{"phrase": "a"}]},
        {"mentions": [{"phrase": "a", "span": [0, 1], "boxes": [{"pixels": [1, 2], "normalized": [1, 2]}]}]},
        {"mentions": 5},
        {"timings": []},
    ],
)
def test_what_is_no_answer_is_refused(change: dict[str, Any]) -> None:
    form = parse_answer("a man [1, 2, 3, 4]", 10, 10).to_dict() | change
    with pytest.raises(InputError):
        Answer.from_dict(form)


def test_a_located_box_knows_both_spaces() -> None:
    box = LocatedBox.of(Box(64, 48, 320, 240), 640, 480, score=0.5)
    assert box == LocatedBox((64, 48, 320, 240), (0.1, 0.1, 0.5, 0.5), 0.5)
    assert LocatedBox.of(Box(10.5, 0, 20, 1), 1000, 3).normalized == (0.0105, 0, 0.02, 0.333333)
