"""
From a decision to bytes: the stamp that follows the one that was read, and the write that carries it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from toolkit.core.jobs import Working
from toolkit.core.model import ABSENT, KEEP, Marker, Write
from toolkit.core.seen import Seen
from toolkit.core.site import Site
from toolkit.core.stamp import (
    FORMAT,
    MESSAGE_LIFE,
    NONE_SETTLED,
    Applied,
    Slot,
    Stamp,
    WriteId,
    dump,
    keep_slots,
)
from toolkit.core.value import RESERVED, digest, encode
from toolkit.errors import InvalidValueError, ValueTooLargeError
from toolkit.stores import Profile, cas_write, create_write

# What daprd takes in one gRPC message is 4 MiB; the rest is room for the frame and the key.
MESSAGE_LIMIT: Final = 4 * 1024 * 1024 - 16 * 1024


class Content(msgspec.Struct, frozen=True):
    """
    What is to stand in the store beside the stamp.

    Attributes:
        members: The visible members.
        bare: A list or scalar that is stored as it is, without a stamp; ``None`` for none.
    """

    members: dict[str, Any]
    gone: bool = False
    envelope: bool = False
    bare: Any = None


def content_of(value: Any, *, envelope: bool) -> Content:
    """
    Where a value goes: an object carries its stamp itself, anything else needs an envelope or goes without.
    """
    whole = value  # narrowed by nothing below
    if isinstance(value, dict):
        return Content(whole)
    if value is ABSENT:
        return Content({}, gone=True)
    return Content({"value": value}, envelope=True) if envelope else Content({}, bare=value)


def successor(
    seen: Seen,
    content: Content,
    write: WriteId,
    now: float,
    *,
    kind: str = "",
    settled: Mapping[str, int] = NONE_SETTLED,
    ops: tuple[Applied, ...] | None = None,
    expires: float | Literal[Marker.KEEP] | None = KEEP,
) -> Stamp:
    """
    The stamp after a write; ids and slots of an earlier stamp are carried on even where a plain writer was here.

    They are true all the same: an id is only ever in bytes that its own write produced. The incarnation is new then.
    An open intent is not carried on: who writes has settled it.
    """
    before = seen.stamp
    if before is not None and before.format != FORMAT:
        raise InvalidValueError(
            f"key {seen.key!r}: its value was written by a newer version of this toolkit (format {before.format}); "
            f"this one reads it and must not write it: upgrade dapr-occ here",
            key=seen.key,
        )
    hashed, name, valid = digest(content.members), str(write), before is not None and seen.valid
    unchanged = _unchanged(seen, content, hashed, now)
    mine = Slot(write.writer, write.number, int(now))
    slots, dropped = keep_slots(before.slots if before else (), mine, now, settled)
    return Stamp(
        version=seen.version_text() if unchanged else name,
        incarnation=seen.incarnation,
        digest=hashed,
        writes=before.writes + 1 if before and valid else 1,
        last=name if unchanged else "",
        kind=kind if unchanged else "",
        slots=slots,
        ops=ops if ops is not None else before.ops if before else (),
        drops=(before.drops if before and valid else 0) + dropped,
        expires=(before.expires if before else None) if expires is KEEP else expires,
        gone=content.gone,
        envelope=content.envelope,
    )


def _unchanged(seen: Seen, content: Content, hashed: str, now: float) -> bool:
    """
    Whether what is to stand there is the version that stands there.
    """
    before = seen.stamp
    if before is not None and seen.valid and hashed != before.digest:
        return False
    was_gone = before is not None and before.gone
    same_form = not seen.plain and not seen.row.missing and content.gone == was_gone
    # An expired value was absent in between: the same content again is a new version.
    return same_form and (content.gone or seen.exists(now)) and hashed == seen.digest()


def _beside(members: bytes, stamp: Stamp, key: str) -> bytes:
    """
    What ``body`` makes of an object whose bytes are at hand.
    """
    comma = b"" if members == b"{}" else b","
    return b"".join((members[:-1], comma, _NAME, encode(dump(stamp), key), b"}"))


_NAME: Final = encode(RESERVED, "") + b":"


def body(key: str, members: dict[str, Any], stamp: Stamp) -> bytes:
    """
    Members and stamp as one stored object.
    """
    return encode({**members, RESERVED: dump(stamp)}, key)


def garbage_ttl(gone: bool, expires: float | None, now: float, op_life: float) -> float | None:  # noqa: FBT001
    """
    Seconds after which the store itself may drop the row; ``None`` for never.

    Later than the expiry by a tombstone's life, so that an expired row is still there to be replaced by compare-and-set
    and no late copy of an old write finds the key absent (rule R7).
    """
    life = max(MESSAGE_LIFE, op_life)
    if gone:
        return life
    return None if expires is None else max(expires - now, 0.0) + life


def conditional(profile: Profile, seen: Seen, data: bytes, ttl: float | None) -> Write:
    """
    The write that takes effect only if the row is still the one that was read.
    """
    seconds = None if ttl is None else math.ceil(ttl)
    if seen.row.missing:
        return create_write(profile, seen.key, data, seconds)
    return cas_write(profile, seen.key, data, seen.row.etag, seconds)


def limit_of(profile: Profile) -> int:
    """
    The most bytes a value with its stamp may have.
    """
    return min(profile.max_value or MESSAGE_LIMIT, MESSAGE_LIMIT)


def compose(
    site: Site, seen: Seen, working: Working, id: WriteId, wall: float
) -> Write | ValueTooLargeError | None:
    """
    The write that puts a batch into the store; ``None`` where it would write back the bare value that is there.
    """
    rules, sealed, before = site.rules, working.sealed, seen.stamp
    value = ABSENT if sealed is ABSENT else sealed.peek()
    if seen.plain and _same(seen, working, value):
        return None
    content = content_of(value, envelope=rules.envelope or (before is not None and before.envelope))
    if content.bare is not None:
        data = encode(content.bare, seen.key)
        return _too_large(site, seen.key, data) or conditional(site.profile, seen, data, None)
    settled, ops, expires = site.writers.settled, working.ops, working.expires
    stamp = successor(seen, content, id, wall, settled=settled, ops=ops, expires=expires)
    if sealed is not ABSENT and sealed.data is not None and not content.envelope:
        data = _beside(sealed.data, stamp, seen.key)
    else:
        data = body(seen.key, content.members, stamp)
    error = _too_large(site, seen.key, data)
    if error is not None:
        return error
    site.rows.wrote(seen.key, data, stamp)
    ttl: float | None = None
    if rules.has_ttl and (content.gone or expires is not None):
        ttl = garbage_ttl(content.gone, expires, wall, rules.op_window)
    return conditional(site.profile, seen, data, ttl)


def _same(seen: Seen, working: Working, value: Any) -> bool:
    """
    Whether a bare value is to be replaced by itself: nothing could tell that write from none.
    """
    adds = working.fresh or working.expires is not None  # an envelope has room for it
    return not adds and seen.value == value and type(seen.value) is type(value)


def _too_large(site: Site, key: str, data: bytes) -> ValueTooLargeError | None:
    size, limit = len(data), limit_of(site.profile)
    if size <= limit:
        return None
    return ValueTooLargeError(
        f"key {key!r}: {size} bytes with the stamp are over the {limit} bytes this store takes; "
        f"store less under one key",
        key=key,
    )
