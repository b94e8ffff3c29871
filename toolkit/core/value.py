"""
Values: what may be stored, how it is copied, encoded and digested.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, cast

import msgspec

from toolkit.errors import CorruptValueError, UnencodableValueError

# The one member of a stored object that belongs to the toolkit. No `$`: MongoDB evaluates such names.
RESERVED: Final = "_occ"

_CONTAINERS: Final = frozenset({dict, list})
_UNFIT: Final = (TypeError, ValueError, RecursionError, msgspec.MsgspecError)
_TOO_DEEP: Final = "it is nested too deeply"
_KINDS: Final[tuple[Any, ...]] = (str, bool, int, float, dict, list, tuple)

# `type` of a value about which nothing is known yet.
_kind_of = cast("Callable[[Any], Any]", type)

_encode, _decode = msgspec.json.Encoder().encode, msgspec.json.Decoder().decode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode
_blake2b = hashlib.blake2b


def plain(value: Any, key: str, path: str = "") -> Any:
    """
    Deep-copy a value while checking that it is JSON.

    The copy is what makes "values are copies" true in both directions: the caller's object and the stored one never
    share a list or a dict.

    Raises:
        UnencodableValueError: Names the key, the place inside the value, and what stands there.
    """
    if not path and type(value) in _CONTAINERS and RESERVED not in value:
        try:
            # The C codec is lenient (tuples, dates, NaN, number keys): only what comes back equal was plain JSON.
            back = _decode(_encode(value))
            if back == value:
                return back
        except _UNFIT:
            pass  # what is wrong with it is told below, with the place
    try:
        return _plain(value, key, path)
    except RecursionError as error:
        raise UnencodableValueError(
            f"key {key!r}: the value cannot be stored: {_TOO_DEEP}", key=key
        ) from error


def _plain(value: Any, key: str, path: str) -> Any:
    kind = _kind_of(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is dict:
        return {
            _member(name, key, path): _plain(item, key, _join(path, name)) for name, item in value.items()
        }
    if kind is list or kind is tuple:
        return [_plain(item, key, f"{path}[{index}]") for index, item in enumerate(value)]
    if kind is float:
        if math.isfinite(value):
            return value
        raise UnencodableValueError(_refusal(key, path, f"{value} is not a JSON number"), key=key)
    return _plain_subclass(value, key, path)


def _plain_subclass(value: Any, key: str, path: str) -> Any:
    for base in _KINDS:
        if isinstance(value, base):
            return _plain(base(value), key, path)
    what = f"a {type(value).__name__} is not JSON; convert it, or use store.typed(...)"
    raise UnencodableValueError(_refusal(key, path, what), key=key)


def _member(name: Any, key: str, path: str) -> str:
    if not isinstance(name, str):
        raise UnencodableValueError(_refusal(key, path, f"the member name {name!r} is not a string"), key=key)
    if name == RESERVED and not path:
        raise UnencodableValueError(
            f"key {key!r}: the member {RESERVED!r} is reserved for the toolkit; leave it out", key=key
        )
    return str(name)


def _join(path: str, name: Any) -> str:
    return f"{path}.{name}" if path else str(name)


def _refusal(key: str, path: str, what: str) -> str:
    place = f" at {path}" if path else ""
    return f"key {key!r}: the value cannot be stored{place}: {what}"


class Sealed:
    """
    A value nobody can change: its bytes, or an object that is only ever copied.

    ``copy`` gives each caller an object of his own; the one that came about when the value was checked goes to the
    first of them, so that a value that is handed on from change to change is written and read once for each.
    """

    __slots__ = ("_spare", "_whole", "data")

    def __init__(self, data: bytes | None, spare: Any) -> None:
        self.data = data
        # Without bytes the object itself, as it was decoded, is the value, and never leaves.
        self._whole: Any = spare if data is None else None
        self._spare: Any = spare if data is not None else _NOTHING

    def copy(self, key: str) -> Any:
        spare = self._spare
        if spare is not _NOTHING:
            self._spare = _NOTHING
            return spare
        if self.data is not None:
            return _decode(self.data)
        try:
            return _decode(_encode(self._whole))
        except RecursionError:
            return plain(self._whole, key)  # says so by the key

    def peek(self) -> Any:
        """
        The value to look at, not to keep and not to change.
        """
        if self.data is None:
            return self._whole
        if self._spare is _NOTHING:
            self._spare = _decode(self.data)
        return self._spare


_NOTHING: Final = object()


def seal(value: Any, key: str) -> Sealed:
    """
    Check that a value is JSON, and keep it so that no change of the object reaches it.

    Raises:
        UnencodableValueError: See ``plain`` and ``encode``.
    """
    if type(value) in _CONTAINERS and RESERVED not in value:
        try:
            data = _encode(value)
            back = _decode(data)
            if back == value:
                return Sealed(data, back)
        except _UNFIT:
            pass  # told below, with the place
    back = plain(value, key)
    return Sealed(encode(back, key), back)


def encode(value: Any, key: str) -> bytes:
    """
    The bytes to store for a value that ``plain`` made.
    """
    try:
        return _encode(value)
    except (ValueError, RecursionError) as error:
        if isinstance(error, UnicodeEncodeError):
            what = "a string holds a lone surrogate"
        else:
            what = "an integer has too many digits" if isinstance(error, ValueError) else _TOO_DEEP
        raise UnencodableValueError(f"key {key!r}: the value cannot be stored: {what}", key=key) from error


def decode(data: bytes, key: str) -> Any:
    """
    Read stored bytes as JSON.

    Raises:
        CorruptValueError: They are not JSON.
    """
    try:
        return _decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CorruptValueError(
            f"key {key!r}: the {len(data)} stored bytes are not JSON; write it again as JSON with the tool that wrote it",
            key=key,
        ) from error


def digest(members: Any) -> str:
    """
    A 64-bit digest of a JSON value that survives a store rewriting the text.

    Keys are sorted and numbers count by value: PostgreSQL's jsonb prints 1e3 as 1000 and 1.8e308 as 309 digits.

    >>> digest({"a": 1.0, "b": [1e3]}) == digest({"b": [1000], "a": 1})
    True
    """
    text = _encode_sorted(members)
    if b".0" in text or _EXPONENT.search(text) is not None:
        text = _short(text) or _encode_sorted(_by_value(members))
    return _blake2b(text, digest_size=8).hexdigest()


# A float of a whole value ends in .0 or has an exponent; the like inside a text only costs a closer look.
_EXPONENT: Final = re.compile(rb"[0-9][eE]")
_AS_IT_IS: Final[frozenset[Any]] = frozenset({str, int, bool, type(None)})
# Up to here a float is its own decimal text, digit by digit.
_EXACT: Final = 2.0**53


def _short(text: bytes) -> bytes | None:
    """
    The numbers of a JSON text as integers where they are whole; ``None`` where that takes a closer look.
    """
    if b"\\" in text:
        return None
    parts = text.split(b'"')  # every second part is a string
    outside = b'"'.join(parts[::2])
    # Minus zero, or an exponent: an "e" that stands in none of the names.
    if b"-0" in outside or (
        b"e" in outside and outside.count(b"e") != outside.count(b"true") + outside.count(b"false")
    ):
        return None
    if text.count(b".0") == outside.count(b".0"):
        return _whole(text)  # no string holds what looks like the end of one
    parts[::2] = _whole(outside).split(b'"')
    return b'"'.join(parts)


def _whole(text: bytes) -> bytes:
    """
    A number ends where its object, its list or the whole text goes on or ends.
    """
    return text.replace(b".0,", b",").replace(b".0}", b"}").replace(b".0]", b"]").removesuffix(b".0")


def _by_value(value: Any) -> Any:
    kind = _kind_of(value)
    if kind is dict:
        return {
            name: item if _kind_of(item) in _AS_IT_IS else _by_value(item) for name, item in value.items()
        }
    if kind is list:
        return [item if _kind_of(item) in _AS_IT_IS else _by_value(item) for item in value]
    if kind is float and value.is_integer():
        # Through the decimal text, as a database does it: int(1e23) would be 99999999999999991611392.
        return int(value) if -_EXACT < value < _EXACT else int(Decimal(repr(value)))
    return value
