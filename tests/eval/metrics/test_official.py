import json
import time

import pytest

from openferret.eval.metrics.official import read_boxes, to_pixels


def test_boxes_are_read_as_the_reference_reads_them(shared):
    cases = json.loads((shared / "reference" / "parity" / "eval" / "decode_boxes.json").read_text())
    for case in cases:
        found, expected = read_boxes(case["text"]), case["refexp_decode"]
        if isinstance(expected, dict):  # the reference stops with an error
            assert found is None, case["text"]
            continue
        phrases = [phrase for phrase, _ in found]
        boxes = [list(to_pixels(box, case["img_w"], case["img_h"])) for _, box in found]
        assert [phrases, boxes] == expected, case["text"]


@pytest.mark.parametrize(
    "text", ["[" * 1_000_000, "[]" * 400_000, "[1,2,3,4" * 100_000, "[1, 2, 3, 4]" * 80_000]
)
def test_a_megabyte_is_read_in_linear_time(text):
    took = []
    for _ in range(3):  # neighbours slow a processor down for a moment, not three times
        started = time.process_time()
        read_boxes(text)
        took.append(time.process_time() - started)
    assert min(took) < 1


def test_numbers_of_any_length_are_no_crash():
    assert read_boxes(f"[{'9' * 100_000}, 1, 2, 3]") is None
