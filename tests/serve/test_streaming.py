import time

from hypothesis import given
from hypothesis import strategies as st

from openferret.answer import parse_answer
from openferret.serve.streaming import CleanText, event

PIECES = st.sampled_from(
    ["a", "an", "and", " and", " dog", "dogs", " ", ", ", ";", ".", "\n", "[", "[1, 2]", "[1, 2, 3, 4]", "[5,",
     " 6, 7, 8]", "]", "<phrase>", "<box><loc_1><loc_2><loc_3><loc_4>", "<loc_9>", "<", "<|im_start|>", "</s>",
     "<phr", "ase>", "<unk>", " sand", "hand", "(", ")", "1", " 2"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=30))
def test_pieces_add_up_to_the_clean_text(parts):
    raw, shown, text = "", "", CleanText()
    for part in parts:
        raw += part
        shown += text.grow(raw)
    whole = parse_answer(raw, 1, 1).text
    assert shown + text.finish(whole) == whole


def test_boxes_and_special_tokens_are_never_shown_not_even_in_parts():
    raw = "<phrase>a man<box><loc_1><loc_2><loc_3><loc_4> rides [10, 20, 30, 40] and [1, 2, 3, 4] home"
    text = CleanText()
    shown = "".join(text.grow(raw[:end]) for end in range(len(raw) + 1))
    assert shown == "a man rides home"


def test_half_a_character_waits_for_its_other_half():
    text = CleanText()
    assert text.grow("caf\ufffd") == "caf"
    assert text.grow("café is") == "é is"


def test_hostile_text_takes_no_long():
    started = time.process_time()
    for hostile in (
        "[" * 20_000,
        "<a" * 20_000,
        " and" * 10_000,
        "[1," * 10_000,
        "<|" * 20_000,
        "a" * 50_000,
    ):
        CleanText().grow(hostile)
    assert time.process_time() - started < 3


def test_an_event_is_one_line_whatever_it_holds():
    assert event({"text": "a\n\ndata: b\r\u2028"}).count(b"\n") == 2
