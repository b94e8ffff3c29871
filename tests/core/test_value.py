"""
Values: what can be stored, that copies are copies, and that the digest outlives a store that rewrites the text.
"""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.core.value import decode, digest, encode, plain
from toolkit.errors import CorruptValueError, UnencodableValueError

ODD = [
    1e23,
    1e22,
    1.7976931348623157e308,
    -1.7976931348623157e308,
    -0.0,
    0.0,
    5e-324,
    2.2250738585072014e-308,
    0.1 + 0.2,
    2**53 + 1,
    2**63,
    -(2**63),
    2**64,
    10**40,
    -(10**40),
    "",
    "\u0000",
    "\u2028 é e\u0301 \U0001f600 \uffff",
    '"\\/\b\f\n\r\t',
    [],
    {},
    [[], {}, [[]]],
    {"": 0, "a": {"": [None, True, False]}},
    {"é": 1, "e\u0301": 2},
    {"b": 1, "a": 2, "B": 3},
]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abé", max_size=2), inner, max_size=4)
    ),
    max_leaves=20,
)


def as_jsonb(value: Any) -> Any:
    """The text PostgreSQL's jsonb gives back: numbers in plain decimal digits, members in another order."""
    if isinstance(value, dict):
        members = ",".join(
            f"{json.dumps(name)}: {as_jsonb(value[name])}" for name in sorted(value, reverse=True)
        )
        return "{" + members + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_jsonb, value)) + "]"
    if isinstance(value, float):
        return format(Decimal(repr(value)) + 0, "f")
    return json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_odd_values_come_back(value: Any) -> None:
    """What is encoded is decoded as it was, and has one digest."""
    body = {"x": value}
    assert decode(encode(body, "k"), "k") == body
    assert digest(decode(encode(body, "k"), "k")) == digest(body)


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_odd_values_keep_their_digest_in_jsonb(value: Any) -> None:
    """Numbers printed in other digits and members in another order have the same digest."""
    body = {"x": value}
    assert digest(decode(as_jsonb(body).encode(), "k")) == digest(body)


@given(st.dictionaries(st.text("abc", max_size=3), json_values, max_size=4))
def test_any_value_keeps_its_digest_in_jsonb(body: dict[str, Any]) -> None:
    """The same for whatever JSON holds."""
    assert digest(decode(as_jsonb(body).encode(), "k")) == digest(decode(encode(body, "k"), "k"))


@given(json_values, json_values)
def test_equal_digests_mean_equal_values(one: Any, other: Any) -> None:
    """Two values have one digest exactly when they are the same JSON by value; True is not 1."""
    assert (digest(one) == digest(other)) == (as_jsonb(by_value(one)) == as_jsonb(by_value(other)))


def by_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: by_value(item) for name, item in value.items()}
    if isinstance(value, list):
        return [by_value(item) for item in value]
    return int(Decimal(repr(value))) if isinstance(value, float) and value.is_integer() else value


@given(json_values)
def test_a_copy_shares_nothing(value: Any) -> None:
    """The copy is equal, and no list or dict in it is one of the original's."""
    copy = plain(value, "k")

    def containers(part: Any) -> set[int]:
        inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        own = {id(part)} if isinstance(part, dict | list) else set[int]()
        return own.union(*map(containers, inner))

    assert copy == value
    assert not containers(copy) & containers(value)


def test_subclasses_and_tuples_become_plain_json() -> None:
    """Ordered dicts, tuples and text subclasses are stored as what they are to JSON."""

    class Name(str):
        __slots__ = ()

    value = plain(OrderedDict(a=(1, 2), b=Name("x")), "k")
    assert (value, type(value), type(value["b"])) == ({"a": [1, 2], "b": "x"}, dict, str)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": math.nan}, "at a: nan"),
        ({"a": [1, {"b": math.inf}]}, r"at a\[1\].b: inf"),
        ({"a": {1, 2}}, "at a: a set"),
        ({"a": b"x"}, "at a: a bytes"),
        ({1: 2}, "member name 1"),
        ({"_occ": 1}, "reserved"),
        (object(), "a object is not JSON"),
    ],
)
def test_what_is_not_json_is_named(value: Any, words: str) -> None:
    """The error names the key and the place inside the value."""
    with pytest.raises(UnencodableValueError, match=words) as caught:
        plain(value, "k")
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    "value",
    ["\ud800", {"a": ["\udfff"]}, {"\ud800": 1}, 10**5000, {"a": [-(10**5000)]}],
    ids=lambda _value: "",
)
def test_what_cannot_be_written_as_utf8_json_is_refused(value: Any) -> None:
    """Lone surrogates and integers no reader takes are typed errors too."""
    with pytest.raises(UnencodableValueError):
        encode(plain(value, "k"), "k")


def test_a_value_nested_too_deeply_is_refused() -> None:
    """Deep nesting is an error of the caller, not a crash of the process."""
    value: Any = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(UnencodableValueError):
        encode(plain(value, "k"), "k")


@pytest.mark.parametrize("data", [b"", b"{", b"nope", b"\xff\xfe", b'{"a":1}x', b'{"a":NaN}', b"[" * 100_000])
def test_bytes_that_are_not_json_are_named(data: bytes) -> None:
    """Stored rubbish is a typed error that names the key."""
    with pytest.raises(CorruptValueError, match="key 'k'"):
        decode(data, "k")
