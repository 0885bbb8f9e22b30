import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openferret.eval.metrics.choices import names_of, official_choice, strict_choice, without_denials


def test_official_rule_is_the_references(shared):
    folder = shared / "reference" / "parity" / "eval"
    expected = json.loads((folder / "lvis_result.json").read_text())
    rows = [json.loads(line) for line in (folder / "lvis_pred.jsonl").read_text().splitlines()]
    assert {row["text"]: without_denials(row["text"]) for row in rows} == expected["per_text"]
    right = [official_choice(row["text"], names_of(row["name"], row["synonyms"])) for row in rows]
    assert f"Acc:{100 * sum(right) / len(right):.3f}%" == expected["stdout"]


@given(st.text(alphabet=" ,.notx\n", max_size=60))
def test_denials_are_cut_as_the_published_expression_cuts_them(text):
    expected = text
    for word in ("not", "no"):
        expected = re.sub(rf"\s+{word}[^,.]*[,.]", "", expected)
    assert without_denials(text) == expected


@pytest.mark.parametrize(
    "text", [" no" * 300_000, " " * 1_000_000, " no," * 200_000, "\n\t no" * 100_000 + "."]
)
def test_a_megabyte_of_denials_takes_no_time(text):
    started = time.process_time()
    official_choice(text, ["dog"])
    strict_choice(text, ["dog"], ["cat"])
    assert time.process_time() - started < 1.5


@pytest.mark.parametrize(
    ("text", "right", "wrong", "official", "strict"),
    [
        ("It is a dog.", ["dog"], ["cat"], True, True),
        ("A DOG.", ["dog"], ["cat"], False, True),
        ("It is a cart.", ["car"], ["dog"], True, None),
        ("The object is a notebook.", ["notebook"], ["cup"], False, True),
        ("It is a cat, not a dog.", ["dog"], ["cat"], False, False),
        ("It is not a cat but, well, a dog", ["dog"], ["cat"], True, True),
        ("a dog or a cat", ["dog"], ["cat"], True, None),
        ("two dogs", ["dog"], ["cat"], True, True),
        ("a baseball bat", ["bat"], ["baseball bat"], True, False),
        ("a baseball bat", ["baseball bat"], ["bat"], True, True),
        ("", ["dog"], ["cat"], False, None),
    ],
)
def test_rules_differ_where_the_official_one_is_wrong(text, right, wrong, official, strict):
    assert official_choice(text, right) is official
    assert strict_choice(text, right, wrong) is strict


def test_names_of_lvis_classes():
    assert names_of("bat_(animal)", ["flying_mouse"]) == ("bat", "animal", "flying mouse")
