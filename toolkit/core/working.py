"""
The working copy of a batch of merged transactions: its keys as they were read, and what the bodies so far have made.

The bodies run one after another; each sees the keys as those before it leave them. Only a body that has ended well is
folded in, whole: one that raised, or was taken out of the batch, leaves no trace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from toolkit.core.model import ABSENT, CLEAR, KEEP, TTL, Reply
from toolkit.core.plan import Moved, Part, version_of
from toolkit.core.recovery import Age, clear
from toolkit.core.seen import Seen, see
from toolkit.core.settle import read
from toolkit.core.site import Site, rpc_timeout
from toolkit.core.steps import GetAll, Now, Steps
from toolkit.core.value import plain

if TYPE_CHECKING:
    from toolkit.core.buffer import Buffer

# The most keys a batch reads and writes.
MOST_KEYS: Final = 16


class Made(msgspec.Struct, frozen=True):
    """
    What a key is to hold; ``ABSENT`` for nothing.
    """

    value: Any
    expires: float | None = None


class Working:
    """
    Rows by key, without undecided intents, and what is made of them.
    """

    def __init__(self, site: Site, age: Age, deadline: float) -> None:
        self.site, self.age, self.deadline = site, age, deadline
        self.rows: dict[str, Seen] = {}
        self.versions: dict[str, str] = {}
        self.made: dict[str, Made] = {}
        self.peeked: dict[str, Seen] = {}
        self.wall = 0.0

    def moved(self, again: Working) -> Moved | None:
        """
        A key that another look found changed.
        """
        for key, version in sorted(again.versions.items()):
            if version != self.versions[key]:
                return again.rows[key], Part(key, self.rows[key], "lock")
        return None

    def fetch(self, keys: frozenset[str]) -> Steps[dict[str, Seen]]:
        """
        Read those of these keys that are not here yet, all at once, and settle what other transactions left on them.
        """
        wanted = tuple(sorted(keys.difference(self.rows)))
        now = yield from Now()
        self.wall = self.wall or now.wall
        bulk = len(wanted) > 1 and self.site.profile.bulk_pays and self.site.profile.linearizable
        answers: tuple[Any, ...] = ()
        if wanted:
            answers = yield from GetAll(wanted, rpc_timeout(self.deadline, now.mono), bulk=bulk)
        found: dict[str, Seen] = {}
        for key, answer in zip(wanted, answers, strict=True):
            if isinstance(answer, Reply) or (bulk and answer.missing):
                # Some bulk reads miss what is there: a key that seems absent is read again by itself.
                seen = yield from read(self.site, key, self.deadline)
            else:
                seen = see(key, answer)
            found[key] = yield from clear(self.site, seen, self.age, self.deadline)
        return found

    def add(self, rows: dict[str, Seen]) -> None:
        """
        Take in what was read; a key that is here stays as it is.
        """
        for key, row in rows.items():
            if key not in self.rows:
                self.versions[key] = version_of(row, self.wall)
                self.rows[key] = row

    def value(self, key: str) -> Any:
        """
        A copy of what the next body sees under a key that was loaded; ``ABSENT`` when there is none.
        """
        made = self.made.get(key)
        if made is not None:
            return made.value if made.value is ABSENT else plain(made.value, key)
        return plain(self.rows[key].value, key) if self.versions[key] else ABSENT

    def exists(self, key: str) -> bool:
        """
        Whether the next body finds a value under a key.
        """
        made = self.made.get(key)
        return bool(self.versions[key]) if made is None else made.value is not ABSENT

    def takes(self, buffer: Buffer, needed: frozenset[str]) -> bool:
        """
        Whether a body can be folded in; what it stumbles over otherwise it is told when it runs by itself.
        """
        rules = self.site.rules
        for key in needed:
            row = self.rows.get(key)
            if (
                row is None
                or (row.row.missing and not rules.can_create)
                or (row.plain and not rules.envelope)
            ):
                return False
            glimpsed = buffer.glimpsed.get(key, self.versions[key])
            if buffer.reads.get(key, row) is not row or glimpsed != self.versions[key]:
                return False  # it was read beside the batch
            own = buffer.writes.get(key)
            if own is None:
                continue
            if own.must_be_new and self.exists(key):
                return False
            enveloped = rules.envelope or (row.stamp is not None and row.stamp.envelope)
            if own.value is not ABSENT and type(own.value) is not dict and not enveloped:
                return False
        return True

    def with_writes(self, buffer: Buffer) -> dict[str, Made]:
        """
        What is made once those that follow see what a body has written.
        """
        mine = {key: Made(own.value, self._expires(key, own.ttl)) for key, own in buffer.writes.items()}
        return {**self.made, **mine}

    def _expires(self, key: str, ttl: TTL) -> float | None:
        if ttl is KEEP:
            made = self.made.get(key)
            if made is not None:
                return made.expires
            return self.rows[key].expires if self.versions[key] else None
        return None if ttl is CLEAR else round(self.wall + float(ttl), 3)

    def parts(self, needed: frozenset[str]) -> tuple[Part, ...]:
        """
        What the commit does to each key that a body wrote or depends on, in key order.
        """
        parts: list[Part] = []
        for key in sorted(needed):
            row, version, made = self.rows[key], self.versions[key], self.made.get(key)
            if made is None:
                parts.append(Part(key, row, "lock", version=version))
            elif made.value is ABSENT:
                parts.append(Part(key, row, "delete", version=version))
            else:
                parts.append(Part(key, row, "put", made.value, made.expires, version))
        return tuple(parts)

    def lingers(self, keys: frozenset[str], wall: float) -> float:
        """
        Seconds until no host sees an expired value under these keys any more.
        """
        wait = 0.0
        for key in keys:
            expires = self.rows[key].expires
            if expires is not None and self.rows[key].value is not ABSENT and expires <= wall:
                wait = max(wait, expires + self.site.skew - wall)
        return wait
