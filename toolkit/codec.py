"""
Values of a user's own kinds: a codec stands between what callers see and the JSON that lies in the store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from toolkit.core.jobs import check_value
from toolkit.core.model import Marker
from toolkit.errors import CorruptValueError, UnencodableValueError


@runtime_checkable
class ValueCodec(Protocol):
    """
    Between the values of a store's callers and JSON: ``StateStore(..., codec=MyCodec())``.

    Both methods are pure and may be called more than once for one call, in any thread. ``encode`` answers with an
    object, list or scalar of JSON, not ``None``; ``decode`` gets a private copy of what ``encode`` once answered, or of
    what another program stored. Whatever either raises becomes an error of the call, with the key, and nothing is
    written. A missing value is ``None`` or the default to callers and never reaches the codec.

    >>> from datetime import date
    >>> from toolkit import StateStore
    >>> from toolkit.testing import MemoryStore
    >>> class Birthdays:
    ...     def encode(self, value):
    ...         return {"born": value.isoformat()}
    ...     def decode(self, stored):
    ...         return date.fromisoformat(stored["born"])
    >>> with StateStore("people", port=MemoryStore(), codec=Birthdays()) as store:
    ...     store.set("ada", date(1815, 12, 10))
    ...     store.get("ada")
    datetime.date(1815, 12, 10)
    """

    def encode(self, value: Any, /) -> Any:
        """
        What to store for a value.
        """
        ...

    def decode(self, stored: Any, /) -> Any:
        """
        The value for what is stored.
        """
        ...


def check_codec(codec: ValueCodec | None) -> ValueCodec | None:
    """
    Refuse what cannot stand between the two.
    """
    if codec is None or (not isinstance(codec, type) and isinstance(codec, ValueCodec)):
        return codec
    raise TypeError(f"codec must be an object with the methods encode and decode, not {codec!r}")


def to_stored(codec: ValueCodec, value: Any, key: str, source: str = "value") -> Any:
    """
    The JSON for a value.

    Raises:
        TypeError: The value is None, a marker or awaitable.
        UnencodableValueError: The codec failed; its own error is the cause.
    """
    check_value(value, key, source)
    try:
        stored = codec.encode(value)
    except Exception as error:
        raise UnencodableValueError(
            f"key {key!r}: {_name(codec)}.encode failed on a {type(value).__name__} ({type(error).__name__}); "
            f"nothing was written",
            key=key,
        ) from error
    if stored is None:
        raise UnencodableValueError(
            f"key {key!r}: {_name(codec)}.encode returned None for a {type(value).__name__}; return JSON",
            key=key,
        )
    return stored


def from_stored(codec: ValueCodec, stored: Any, key: str) -> Any:
    """
    The value for a private copy of what is stored; ``None`` stays what it is.

    Raises:
        CorruptValueError: The codec failed; its own error is the cause.
    """
    if stored is None:
        return None
    try:
        return codec.decode(stored)
    except Exception as error:
        raise CorruptValueError(
            f"key {key!r}: {_name(codec)}.decode failed on what is stored ({type(error).__name__}); repair the value, "
            f"or teach the codec what other programs write there",
            key=key,
        ) from error


def coded(codec: ValueCodec, change: Callable[[Any], Any], key: str) -> Callable[[Any], Any]:
    """
    The change as the store sees it: from JSON to JSON.
    """

    def changed(stored: Any) -> Any:
        after = change(from_stored(codec, stored, key))
        if after is None or isinstance(after, Marker):
            return after
        return to_stored(codec, after, key, "change")

    return changed


def _name(codec: ValueCodec) -> str:
    return type(codec).__name__
