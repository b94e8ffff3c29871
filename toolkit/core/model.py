"""
The nouns: versions, entries, rows, writes, replies, and the markers that stand where a value cannot.
"""

from __future__ import annotations

import enum
from typing import Any, Final, Literal, TypeAlias

import msgspec

from toolkit.errors import InvalidETagError


class Marker(enum.Enum):
    """
    Words that stand where a value or a version could; enum members so that identity survives pickling.
    """

    ABSENT = "ABSENT"
    UNCHANGED = "UNCHANGED"
    DELETE = "DELETE"
    KEEP = "KEEP"
    CLEAR = "CLEAR"

    def __repr__(self) -> str:
        return self.value

    def __str__(self) -> str:
        # `str(entry.etag)` is read back by `ETag.parse`, absent or not.
        return self.value

    def __bool__(self) -> bool:
        # `if entry.etag` and `value or default` must not treat a marker as data.
        return self is not Marker.ABSENT


ABSENT: Final = Marker.ABSENT
UNCHANGED: Final = Marker.UNCHANGED
DELETE: Final = Marker.DELETE
KEEP: Final = Marker.KEEP
CLEAR: Final = Marker.CLEAR

Absent: TypeAlias = Literal[Marker.ABSENT]
TTL: TypeAlias = float | Literal[Marker.KEEP, Marker.CLEAR]

_ETAG_SAFE: Final = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_.~@%")


class ETag(msgspec.Struct, frozen=True):
    """
    The version of a value: equal exactly when the value has not changed since.

    It is not the ETag of the store, which also moves when a transaction merely looked at the key. ``str(etag)`` and
    ``ETag.parse`` travel through an HTTP header.

    >>> ETag.parse(str(ETag("5f1c.3"))) == ETag("5f1c.3")
    True
    """

    text: str

    def __str__(self) -> str:
        return f'"{self.text}"'

    @classmethod
    def parse(cls, text: str) -> ETag | Absent:
        """
        Read what ``str`` wrote; also accepts a weak prefix and missing quotes, and ``ABSENT`` by name.

        Raises:
            InvalidETagError: The text is not an ETag of this toolkit.
            TypeError: It is no text, such as the None of a header that is not there.
        """
        if not isinstance(text, str):
            raise TypeError(
                f"an ETag is read from text, not from {text!r}: a header that is missing names no version"
            )
        bare = text.strip().removeprefix("W/").strip('"')
        if bare == Marker.ABSENT.value:
            return ABSENT
        if not bare or not _ETAG_SAFE.issuperset(bare):
            raise InvalidETagError(
                f"{text[:40]!r} is not an ETag of this toolkit: pass what str(entry.etag) gave"
            )
        return cls(bare)


class Entry(msgspec.Struct, frozen=True):
    """
    A value and the version it had at one moment; ``etag`` is ``ABSENT`` and ``value`` is None when the key is missing.
    """

    key: str
    value: Any
    etag: ETag | Absent
    exists: bool


class Outcome(enum.Enum):
    """
    What became of an operation: the answer of ``store.resolve`` and ``store.outcome``.
    """

    COMMITTED = "committed"
    NOT_COMMITTED = "not committed"
    UNKNOWABLE = "unknowable"


class Access(enum.Flag):
    """
    What a handle may do: read, write, remove, or a union of them.
    """

    READ = 1
    WRITE = 2
    REMOVE = 4
    ALL = READ | WRITE | REMOVE


class Row(msgspec.Struct, frozen=True):
    """
    What one read found in the store: its bytes and the store's own ETag; without either the key is missing.

    Dapr answers a missing key with empty data and an empty ETag; an empty value has an ETag. A store without ETags
    answers with the data alone.
    """

    data: bytes
    etag: str

    @property
    def missing(self) -> bool:
        return not self.etag and not self.data


MISSING_ROW: Final = Row(b"", "")


class Write(msgspec.Struct, frozen=True):
    """
    One write as it goes over the wire; sent again it is byte-identical.

    Attributes:
        data: The bytes to store; ``None`` deletes the key for real.
        etag: The store's ETag the write is conditional on; ``None`` for none. Never empty (Dapr takes that for none).
        first_write: Dapr's first-write concurrency, used only where the profile creates keys that way.
        ttl: ``ttlInSeconds`` to send; ``None`` sends none, -1 clears it.
    """

    key: str
    data: bytes | None
    etag: str | None = None
    first_write: bool = False
    ttl: int | None = None


class Reply(msgspec.Struct, frozen=True):
    """
    What came back from a call: the name of the gRPC status and its text; what it means is up to the classifier.
    """

    code: str = "OK"
    text: str = ""

    @property
    def ok(self) -> bool:
        return self.code == "OK"


OK: Final = Reply()
# Not a gRPC status: the adapter knows that the request never left this process (no connection could be made).
UNSENT: Final = "UNSENT"
