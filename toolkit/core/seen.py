"""
What one read saw: the row, its value, its stamp, and whether a plain writer was here since.
"""

from __future__ import annotations

import re
from typing import Any, Final, cast

import msgspec

from toolkit.core.model import ABSENT, Absent, ETag, Row
from toolkit.core.stamp import ABSENT_INCARNATION, FORMAT, Stamp, parse
from toolkit.core.value import RESERVED, decode, digest
from toolkit.errors import CorruptValueError

_UNSAFE: Final = re.compile(r"[^0-9A-Za-z_.-]")


class Seen(msgspec.Struct, frozen=True):
    """
    One read of one key, understood.

    Attributes:
        members: The visible members of an object or envelope; empty otherwise.
        value: The caller's value, whether or not it has expired; ``ABSENT`` when missing or deleted. Never mutated.
        stamp: The stamp, valid or not; ``None`` when there is none.
        valid: The stamp is of this format and its digest matches what stands beside it.
        plain: The value is a list or scalar stored as it is.
    """

    key: str
    row: Row
    members: dict[str, Any]
    value: Any
    stamp: Stamp | None
    valid: bool
    plain: bool

    @property
    def incarnation(self) -> str:
        """
        What a successor's stamp is born on: the same incarnation while the stamp is valid, else this very row.
        """
        if self.stamp is not None and self.valid:
            return self.stamp.incarnation
        return self.row.etag or ABSENT_INCARNATION

    @property
    def drops(self) -> int:
        return self.stamp.drops if self.stamp is not None and self.valid else 0

    @property
    def expires(self) -> float | None:
        return self.stamp.expires if self.stamp is not None else None

    @property
    def later(self) -> bool:
        """
        The stamp is of a format this version reads but does not write.
        """
        return self.stamp is not None and self.stamp.format != FORMAT

    def foreign(self) -> bool:
        """
        A plain writer made this value (or wrote over a stamped one).
        """
        return not self.row.missing and not self.valid and not self.later

    def exists(self, now: float) -> bool:
        """
        Whether a reader sees a value at this moment.
        """
        return self.value is not ABSENT and (self.expires is None or now < self.expires)

    def version_text(self) -> str:
        """
        The version of the value, alive or not.

        A value without a valid stamp has the store's ETag and its digest for a version: on stores that repeat ETags
        the digest still tells two values apart.
        """
        if self.stamp is not None and self.valid:
            return self.stamp.version
        return "@" + _UNSAFE.sub(_percent, self.row.etag) + "~" + self.digest()

    def version(self, now: float) -> ETag | Absent:
        return ETag(self.version_text()) if self.exists(now) else ABSENT

    def digest(self) -> str:
        """
        The digest of what is visible; a valid stamp holds it.
        """
        if self.valid and self.stamp is not None:
            return self.stamp.digest
        return _digest(self.value if self.plain else self.members, self.key)


def _digest(value: Any, key: str) -> str:
    try:
        return digest(value)
    except RecursionError as error:
        raise CorruptValueError(
            f"key {key!r}: the stored value is nested too deeply to work with", key=key
        ) from error


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02x}" for byte in match.group().encode())


def see(key: str, row: Row) -> Seen:
    """
    Understand a row.

    Raises:
        CorruptValueError: The bytes are not JSON, or ``_occ`` is no stamp.
    """
    if row.missing:
        return Seen(key, row, {}, ABSENT, None, valid=False, plain=False)
    body = decode(row.data, key)
    if type(body) is not dict:
        return Seen(key, row, {}, body, None, valid=False, plain=True)
    members = cast("dict[str, Any]", body)
    raw = members.pop(RESERVED, None)
    if raw is None:
        return Seen(key, row, members, members, None, valid=False, plain=False)
    stamp = parse(raw, key)
    valid = stamp.format == FORMAT and stamp.digest == _digest(body, key)
    return Seen(key, row, members, _value_of(members, stamp), stamp, valid=valid, plain=False)


class OwnRows:
    """
    The rows this process wrote last: one that is read back unchanged, byte by byte, needs no second look at its stamp.

    Only saves time: what it answers is what ``see`` would. Threads may share it; a lost entry costs one look.
    """

    def __init__(self) -> None:
        self._rows: dict[str, tuple[bytes, Stamp]] = {}

    def wrote(self, key: str, data: bytes, stamp: Stamp) -> None:
        rows = self._rows
        if len(data) > _OWN_BYTES:
            rows.pop(key, None)
            return
        if len(rows) >= _OWN_ROWS and key not in rows:
            rows.clear()
        rows[key] = data, stamp

    def see(self, key: str, row: Row) -> Seen:
        """
        See ``see``.
        """
        own = self._rows.get(key)
        if own is None or own[0] != row.data:
            return see(key, row)
        members: dict[str, Any] = decode(row.data, key)
        del members[RESERVED]
        return Seen(key, row, members, _value_of(members, own[1]), own[1], valid=True, plain=False)


# At most 4 MiB in all.
_OWN_ROWS: Final = 256
_OWN_BYTES: Final = 16 * 1024


def _value_of(members: dict[str, Any], stamp: Stamp) -> Any:
    if stamp.gone and not members:
        return ABSENT
    if stamp.envelope and set(members) == {"value"}:
        return members["value"]
    return members
