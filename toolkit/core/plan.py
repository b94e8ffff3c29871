"""
What a commit does to each key, and what became of an attempt; shared by all commit paths.
"""

from __future__ import annotations

import enum
from typing import Any, Literal, TypeAlias

import msgspec
import msgspec.structs

from toolkit.core.compose import Content, body, conditional, content_of, garbage_ttl, limit_of, successor
from toolkit.core.intents import IntentKind
from toolkit.core.model import ABSENT, Reply, Write
from toolkit.core.records import Record
from toolkit.core.recovery import Age
from toolkit.core.seen import Seen
from toolkit.core.site import Site
from toolkit.core.stamp import Stamp, WriteId
from toolkit.core.value import encode
from toolkit.errors import ValueTooLargeError

Path: TypeAlias = Literal["single", "native", "intents"]


class Part(msgspec.Struct, frozen=True):
    """
    What a commit does to one key.

    Attributes:
        seen: The row to build on, without an undecided intent.
        kind: ``lock`` for a key that was only read.
        value: The new value for ``put``.
        version: The version the body saw; ``None`` when it saw none (a blind put).
    """

    key: str
    seen: Seen
    kind: IntentKind
    value: Any = ABSENT
    expires: float | None = None
    version: str | None = None


# A key that changed under an attempt: as it was found, and what the attempt would have built on.
Moved: TypeAlias = tuple[Seen, Part]


class Plan(msgspec.Struct, frozen=True):
    """
    One attempt to commit: its parts in key order, its id, and the record of its operation id, if any.

    Attributes:
        others: The operation records, as read and as they are to be, of those merged into this transaction.
    """

    parts: tuple[Part, ...]
    id: WriteId
    age: Age
    deadline: float
    record: Record | None = None
    outcome: Record | None = None
    others: tuple[tuple[Record, Record], ...] = ()

    @property
    def records(self) -> tuple[tuple[Record, Record], ...]:
        if self.record is None or self.outcome is None:
            return self.others
        return ((self.record, self.outcome), *self.others)

    @property
    def tx(self) -> str:
        return str(self.id)


class Ending(enum.Enum):
    """
    How an attempt ended: COMMITTED; LOST to somebody else's write; FAILED without a rival (an outage); UNKNOWN.
    """

    COMMITTED = "committed"
    LOST = "lost"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Ended(msgspec.Struct, frozen=True):
    """
    The end of an attempt.

    Attributes:
        rival: The read that shows who won, when somebody did.
        base: The part that lost.
        reply: The last answer of the store.
        record: The record that decided, with the keys to be finished; only on the path of intents.
        fresh: Reads made on the way, good to start the next attempt from.
    """

    ending: Ending
    reply: Reply
    rival: Seen | None = None
    base: Part | None = None
    record: Record | None = None
    fresh: tuple[Seen, ...] = ()


def content(site: Site, part: Part) -> Content:
    """
    What is visible under a key once the commit took effect.
    """
    if part.kind == "put":
        stamp = part.seen.stamp
        return content_of(part.value, envelope=site.rules.envelope or (stamp is not None and stamp.envelope))
    if part.kind == "delete" or part.seen.value is ABSENT:
        return Content({}, gone=True)
    stamp = part.seen.stamp
    return Content(part.seen.members, envelope=stamp is not None and stamp.envelope)


def final_write(site: Site, part: Part, id: WriteId, wall: float) -> Write:
    """
    The write of one key on the paths that need no intent.
    """
    what = content(site, part)
    if part.kind == "lock" and part.seen.plain:
        return conditional(site.profile, part.seen, encode(part.seen.value, part.key), None)
    if what.bare is not None:
        return sized(site, conditional(site.profile, part.seen, encode(what.bare, part.key), None))
    stamp = successor(part.seen, what, id, wall, settled=site.writers.settled)
    if part.kind != "lock":
        stamp = msgspec.structs.replace(stamp, expires=part.expires)
    return _stamped(site, part, what.members, stamp, wall)


def _stamped(site: Site, part: Part, members: dict[str, Any], stamp: Stamp, wall: float) -> Write:
    life = site.op_ttl if part.kind == "delete" else site.rules.op_window
    ttl = garbage_ttl(stamp.gone, stamp.expires, wall, life) if site.rules.has_ttl else None
    return sized(site, conditional(site.profile, part.seen, body(part.key, members, stamp), ttl))


def sized(site: Site, write: Write) -> Write:
    """
    The write itself, unless it is more than the store takes.
    """
    size, limit = len(write.data or b""), limit_of(site.profile)
    if size > limit:
        raise ValueTooLargeError(
            f"key {write.key!r}: {size} bytes with the stamp (and, during a transaction, the old and the new value) are "
            f"over the {limit} bytes this store takes; store less under one key",
            key=write.key,
        )
    return write


def version_of(seen: Seen, wall: float) -> str:
    """
    The version a body saw, as text; empty for a key that is absent, whatever tombstone stands there.
    """
    return seen.version_text() if seen.exists(wall) else ""
