"""
What the end of an attempt checks: that the body saw what stood together, and that its keys can take what it wrote.
"""

from __future__ import annotations

from toolkit.core.body import BodyRun
from toolkit.core.intents import intent_of
from toolkit.core.model import ABSENT, CLEAR, KEEP, TTL, Reply
from toolkit.core.plan import Part, version_of
from toolkit.core.recovery import Age, clear, peek
from toolkit.core.seen import Seen, see
from toolkit.core.settle import read
from toolkit.core.site import rpc_timeout
from toolkit.core.steps import GetAll, Now, Pause, Steps
from toolkit.errors import AlreadyExistsError, InvalidValueError, UnsafeStoreError


class CheckedRun(BodyRun):
    """
    A body's reads and writes against the store, as it is now.
    """

    def _agree(self) -> Steps[bool]:
        """
        Whether all keys the body read had the versions it saw at one moment (a double collect).
        """
        reads = self.buffer.reads
        if self.options.isolation == "read_committed" or not reads:
            return True
        if len(reads) == 1 and all(intent_of(seen) is None for seen in reads.values()):
            return True
        now = yield from Now()
        answers = yield from GetAll(tuple(reads), rpc_timeout(self.deadline, now.mono))
        agree = True
        for key, answer in zip(tuple(reads), answers, strict=True):
            again = (
                see(key, answer)
                if not isinstance(answer, Reply)
                else (yield from read(self.site, key, self.deadline))
            )
            shown = yield from peek(self.site, again, self.deadline)
            wall = (yield from Now()).wall
            _, before = yield from self._look(key)
            if version_of(shown, wall) != before:
                agree, self.moved = False, (again, Part(key, reads[key], "lock"))
            self.warm[key] = again
        return agree

    def _parts(self) -> Steps[tuple[Part, ...] | None]:
        """
        Every key to be written or guarded, in key order, on a row without undecided intents; ``None``: run again.
        """
        buffer = self.buffer
        keys = set(buffer.writes) | buffer.guards
        if self.options.isolation == "serializable":
            keys |= set(buffer.reads)
        blind = tuple(sorted(key for key in keys if key not in buffer.reads))
        yield from self.prefetch(blind)
        parts: list[Part] = []
        for key in sorted(keys):
            shown = buffer.shown.get(key)
            if shown is None and key in buffer.reads:
                shown = yield from self._look(key)
            version = shown[1] if shown is not None else buffer.glimpsed.get(key)
            row = (
                buffer.reads.get(key)
                or self.warm.pop(key, None)
                or (yield from read(self.site, key, self.deadline))
            )
            free = row
            if intent_of(row) is not None:
                free = yield from clear(self.site, row, self._age(), self.deadline)
            wall = (yield from Now()).wall
            if version is not None and version_of(free, wall) != version:
                self.moved = (free, Part(key, row, "lock")) if free is not row else None
                return None
            if free.expires is not None and (yield from self._wait_for_expiry(free, wall)):
                return None
            parts.append(self._part(key, free, version, wall))
        return tuple(parts)

    def _part(self, key: str, free: Seen, version: str | None, wall: float) -> Part:
        own = self.buffer.writes.get(key)
        if free.row.missing and not self.site.rules.can_create:
            raise UnsafeStoreError(
                f"key {key!r}: this store has no safe way to create a key, which guarding an absent one needs too; nothing "
                f"was sent. Create it by other means first, or use another store",
                reasons=self.site.rules.create_reasons,
            )
        if own is None:
            return Part(key, free, "lock", version=version)
        if own.must_be_new:
            if free.exists(wall):
                raise AlreadyExistsError(f"key {key!r} already exists", key=key, attempt=self.attempt)
            version = ""
        if own.value is ABSENT:
            return Part(key, free, "delete", version=version)
        kind = type(own.value).__name__
        if kind != "dict" and not self.site.rules.envelope and self._needs_envelope(free):
            raise InvalidValueError(
                f"key {key!r}: a bare {kind} cannot take part in a transaction; open the store with "
                f"StateStore(..., envelope=True)",
                key=key,
            )
        expires = self._expires(own.ttl, free, wall)
        return Part(key, free, "put", own.value, expires, version)

    def _needs_envelope(self, seen: Seen) -> bool:
        return not (seen.stamp is not None and seen.stamp.envelope)

    def _expires(self, ttl: TTL, seen: Seen, wall: float) -> float | None:
        if ttl is KEEP:
            return seen.expires if seen.exists(wall) else None
        return None if ttl is CLEAR else round(wall + float(ttl), 3)

    def _wait_for_expiry(self, seen: Seen, wall: float) -> Steps[bool]:
        """
        Wait where readers no longer see a value that a host with a slower clock still may; says whether it did.
        """
        expires = seen.expires
        if expires is None or seen.value is ABSENT or not expires <= wall < expires + self.site.skew:
            return False
        now = yield from Now()
        yield from Pause(min(expires + self.site.skew - wall + 0.001, max(self.deadline - now.mono, 0.0)))
        return True

    def _age(self) -> Age:
        return Age(self.first_wall, self.writer.name)
