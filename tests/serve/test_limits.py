import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openferret.serve.errors import ServeError
from openferret.serve.limits import Budget, Limits, read_json

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('ab[{"\\,}]'), inner, max_size=4),
    max_leaves=20,
)


@given(PLAIN)
def test_ordinary_json_is_read_as_it_is(value):
    limits = Limits(depth=100)
    assert read_json(json.dumps(value).encode(), limits) == value


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"nope", b"\xff", b'{"a":}', b"[NaN]", b"[Infinity]", b"[-Infinity]", b'"\\ud800"', b"[1]x"],
)
def test_what_is_not_json_is_400(raw):
    with pytest.raises(ServeError) as error:
        read_json(raw)
    assert (error.value.status_code, error.value.code) == (400, "invalid_json")


@pytest.mark.parametrize("raw", [b"[" * 17 + b"]" * 17, b"[" * 1_000_000, b'{"a":' * 100_000])
def test_deep_json_is_refused_before_it_is_parsed(raw):
    with pytest.raises(ServeError) as error:
        read_json(raw)
    assert error.value.code == "json_too_deep"


def test_brackets_in_text_are_not_nesting():
    assert read_json(b'["' + b"[" * 100 + b'"]') == ["[" * 100]


@pytest.mark.parametrize(
    "raw",
    [
        b"[" + b"0," * 500_000 + b"0]",
        b'"' + b'\\"' * 500_000 + b'"',
        b'""' * 4_000_000,
        b"[]" * 4_000_000,
        b"{" + b", ".join(b'"%d" : 1' % number for number in range(9_000)) + b"}",
    ],
)
def test_too_many_values_or_escapes_are_413(raw):
    with pytest.raises(ServeError) as error:
        read_json(raw)
    assert (error.value.status_code, error.value.code) == (413, "json_too_large")


def test_a_number_of_a_million_digits_is_refused():
    with pytest.raises(ServeError):
        read_json(b"[" + b"1" * 1_000_000 + b"]")


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_else(raw):
    with suppress(ServeError):
        read_json(raw)


def test_a_budget_is_given_back():
    budget = Budget(10)
    with budget.hold(8), pytest.raises(ServeError) as error, budget.hold(3):
        pass
    assert (error.value.status_code, budget.held) == (429, 0)
