import pytest

from openferret.checks import finite_number, finite_pairs, shorten, split_numbers, split_pairs
from openferret.errors import InputError


@pytest.mark.parametrize("value", ["x", None, float("nan"), float("inf"), 10**400, [1]])
def test_finite_number_names_what_is_wrong(value: object) -> None:
    with pytest.raises(InputError, match="the box's x1 must be"):
        finite_number(value, "the box's x1")


@pytest.mark.parametrize("points", [[], [(1,)], [(1, 2, 3)], [("a", 1)], [(1, float("nan"))], 5, None, "12"])
def test_finite_pairs_refuses_what_is_no_pair(points: object) -> None:
    with pytest.raises(InputError):
        finite_pairs(points, "polygon", at_least=2)


@pytest.mark.parametrize("text", ["", "10,", "10,,20", "1,2,3", "ten,20", "1"])
def test_split_numbers_refuses_another_count_or_empty_places(text: str) -> None:
    with pytest.raises(InputError, match="x,y"):
        split_numbers(text, "point", "x,y")


def test_split_pairs_is_generous_with_separators_but_not_with_counts() -> None:
    assert split_pairs(" 1, 2   3;4 ", "scribble") == [(1, 2), (3, 4)]
    with pytest.raises(InputError, match="3 numbers"):
        split_pairs("1,2 3", "scribble")


def test_messages_stay_on_one_short_line() -> None:
    with pytest.raises(InputError) as raised:
        split_numbers("9\n" * 1_000_000 + "x", "point", "x,y")
    assert len(str(raised.value)) < 150
    assert "\n" not in str(raised.value)
    assert len(shorten("y" * 1000)) == 60
