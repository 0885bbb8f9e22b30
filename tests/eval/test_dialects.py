import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.florence2.processing_florence2 import Florence2PostProcessor
from transformers.models.kosmos2.processing_kosmos2 import (
    clean_text_and_extract_entities_with_bboxes,
    coordinate_to_patch_index,
)

from openferret.eval.dialects import DIALECTS, box_to_cells, place_in, read_florence, read_kosmos, read_qwen

WORDS = st.text("abc de", min_size=1, max_size=8).filter(str.strip)
CELLS = st.lists(st.tuples(st.integers(0, 1023), st.integers(0, 1023)), min_size=1, max_size=3)


def found(answer):
    return [(one.phrase, [box.normalized for box in one.boxes]) for one in answer.mentions]


@given(st.lists(st.tuples(WORDS, WORDS, CELLS), max_size=4))
def test_kosmos_is_read_as_its_own_processor_reads_it(entities):
    raw = "<grounding>"
    for words, phrase, pairs in entities:
        cells = "</delimiter_of_multi_objects/>".join(
            f"<patch_index_{a:04d}><patch_index_{b:04d}>" for a, b in pairs
        )
        raw += f" {words}<phrase> {phrase}</phrase><object>{cells}</object>"
    _, theirs = clean_text_and_extract_entities_with_bboxes(raw)
    ours = found(read_kosmos(raw, 1000, 1000))
    assert [phrase for phrase, _ in ours] == [" ".join(phrase.split()) for phrase, _, _ in theirs]
    for (_, boxes), (_, _, expected) in zip(ours, theirs, strict=True):
        right_way = [box for box in expected if box[0] < box[2] and box[1] < box[3]]
        assert boxes == [pytest.approx(box, abs=1e-6) for box in right_way]


@given(st.tuples(*[st.floats(0, 1)] * 4))
def test_cells_of_a_region_are_those_of_its_own_processor(box):
    x1, y1, x2, y2 = box
    if x1 + 1e-6 < x2 and y1 + 1e-6 < y2 and max(x1, y1) < 1:
        assert box_to_cells(box) == coordinate_to_patch_index(box, 32)


def test_florence_is_read_as_its_own_processor_reads_it():
    class Words:
        all_special_tokens = ()

    dog = "A dog<loc_0><loc_10><loc_499><loc_999><loc_1><loc_1><loc_9><loc_9>"
    raw = f"</s><s>{dog}a man<loc_5><loc_5><loc_700><loc_800></s>"
    theirs = Florence2PostProcessor(None, Words()).parse_phrase_grounding_from_text_and_spans(
        raw, (10_000, 10_000)
    )
    ours = found(read_florence(raw, 10_000, 10_000))
    assert [phrase for phrase, _ in ours] == [one["cat_name"] for one in theirs] == ["A dog", "a man"]
    for (_, boxes), one in zip(ours, theirs, strict=True):
        assert [[round(value * 10_000) for value in box] for box in boxes] == one["bbox"]


def test_qwen_in_two_spaces_fenced_bare_and_cut_off():
    dog = '{"bbox_2d": [50, 20.5, 100, 80], "label": "a \\"big\\" dog"}'
    whole = f'```json\n[\n\t{dog},\n\t{{"label": "cat", "bbox_2d": [0, 0, 200, 100]}}\n]\n```'
    answer = read_qwen(whole, 400, 200, (200, 100))
    assert found(answer) == [('a "big" dog', [(0.25, 0.205, 0.5, 0.8)]), ("cat", [(0, 0, 1, 1)])]
    assert read_qwen(whole[:-12], 400, 200, (200, 100)).mentions[0].boxes
    assert found(DIALECTS["qwen2.5"](whole, 200, 100)) == found(answer)
    assert read_qwen("There is no such thing.", 9, 9).text == "There is no such thing."
    assert found(read_qwen('{"bbox_2d": [500, 500, 400, 600], "label": "x"}', 9, 9)) == [("x", [])]
    assert found(read_qwen('{"bbox_2d": [NaN, 0, 1, 2], "label": "x"}', 9, 9)) == []


def test_captions_take_the_mentions_that_stand_in_them():
    boxed = read_florence("a dog<loc_0><loc_0><loc_9><loc_9>the cat<loc_0><loc_0><loc_9><loc_9>", 10, 10)
    answer = place_in("A dog and a dog see the Cat.", boxed)
    assert [(one.phrase, one.span) for one in answer.mentions] == [("A dog", (0, 5)), ("the Cat", (20, 27))]
    assert place_in("", boxed).mentions == ()


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize(
    "piece",
    [
        *(
            "{",
            "[",
            '{"bbox_2d": [',
            "<",
            "<phrase>",
            "<object>",
            "<patch_index_0001>",
            "<loc_1>",
            "a<loc_",
            "\\",
        ),
        *('{"label": "', "<phrase>a</phrase>", " ", "</delimiter_of_multi_objects/>", '"bbox_2d"', "[1,"),
    ],
)
def test_a_megabyte_of_anything_is_read_in_linear_time(name, piece):
    read = DIALECTS[name]
    sizes = []
    for length in (250_000, 1_000_000):
        began = time.process_time()
        read(piece * (length // len(piece)), 640, 480)
        sizes.append(time.process_time() - began)
    assert sizes[1] < 16 * max(sizes[0], 0.02)


@given(raw=st.text(max_size=200))
def test_no_words_crash_a_reader(raw):
    for read in DIALECTS.values():
        for one in read(raw, 64, 48).mentions:
            assert all(0 <= value <= 1 for box in one.boxes for value in box.normalized)


def test_labels_are_read_as_json_writes_them():
    label = 'a "red" caf\u00e9 \\'
    raw = json.dumps([{"bbox_2d": [0, 0, 500, 500], "label": label}])
    assert read_qwen(raw, 100, 100).mentions[0].phrase == label
    broken = raw.replace("\\u00e9", "\\q")
    assert read_qwen(broken, 100, 100).mentions[0].boxes
