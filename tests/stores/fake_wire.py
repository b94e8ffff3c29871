"""
A state store for the doctor, honest or with one lie at a time.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from toolkit.core.model import OK, Reply
from toolkit.doctor import About, Concurrency, Found, Op

MISMATCH = Reply(
    "ABORTED", "failed saving state in state store s: possible etag mismatch. error from state store"
)


@dataclass
class Held:
    data: bytes
    etag: str
    expires: float | None


@dataclass
class FakeWire:
    """
    SQLite's rules under one lock; each lie breaks one of them.
    """

    type: str = "state.sqlite"
    version: str = "v1"
    lies: frozenset[str] = frozenset()
    now: float = 0.0
    rows: dict[str, Held] = field(default_factory=dict)
    policies: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ("ETAG", "TRANSACTIONAL", "TTL")
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _sent: itertools.count[int] = field(default_factory=itertools.count)
    _etags: itertools.count[int] = field(default_factory=lambda: itertools.count(1000))

    def about(self) -> About:
        return About("1.18.2", self.type, self.version, self.capabilities, ("s",), self.policies)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def get(self, key: str) -> Found:
        with self._lock:
            held = self._live(self._name(key))
            if held is None:
                return Found()
            etag = "" if "no etags" in self.lies else held.etag
            return Found(held.data, etag, "soon" if held.expires is not None else "")

    def get_bulk(self, keys: Sequence[str]) -> dict[str, Found]:
        found = {key: self.get(key) for key in keys}
        if "bulk" in self.lies:
            found[keys[0]] = Found()
        return found

    def send(self, op: Op) -> Reply:
        with self._lock:
            reply = self._check(op)
            if reply.ok:
                dropped = (
                    "drops some" in self.lies and b"{" not in (op.data or b"{") and next(self._sent) % 3 == 0
                )
                if not dropped:
                    self._apply(op)
            elif "false success" in self.lies:
                return OK
            return reply

    def multi(self, ops: Sequence[Op]) -> Reply:
        if "no transactions" in self.lies:
            return Reply("UNIMPLEMENTED", "state store s doesn't support transactions")
        with self._lock:
            replies = [self._check(op) for op in ops]
            refused = [reply for reply in replies if not reply.ok]
            for op, reply in zip(ops, replies, strict=True):
                if reply.ok and (not refused or "partial transactions" in self.lies):
                    raw = b"[1]" if "encrypted" in self.lies and op.data else op.data
                    self._apply(replace(op, data=raw))
            return Reply("INTERNAL", refused[0].text) if refused else OK

    def _name(self, key: str) -> str:
        return key.lower() if "case" in self.lies else key

    def _live(self, key: str) -> Held | None:
        held = self.rows.get(key)
        if held is not None and held.expires is not None and self.now >= held.expires:
            return None
        return held

    def _check(self, op: Op) -> Reply:
        key = self._name(op.key)
        held = self._live(key)
        if op.etag and "no etags" not in self.lies:
            if held is None:
                return OK if "resurrection" in self.lies else MISMATCH
            stale = held.etag != op.etag
            return MISMATCH if stale and "blind" not in self.lies else OK
        if op.concurrency is Concurrency.FIRST_WRITE and "first-write overwrites" not in self.lies:
            if "raced creates" in self.lies and "-race-" in key:
                return OK
            exists = key in self.rows if "ghosts" in self.lies else held is not None
            return MISMATCH if exists else OK
        return OK

    def _apply(self, op: Op) -> None:
        key = self._name(op.key)
        if op.data is None:
            self.rows.pop(key, None)
            return
        held = self._live(key)
        etag = str(next(self._etags))
        if "etags repeat" in self.lies:
            etag = str(int(held.etag) + 1) if held is not None else "1"
        if "sticky etag" in self.lies and held is not None and op.etag is None:
            etag = held.etag
        expires = self.now + op.ttl if op.ttl is not None and op.ttl > 0 else None
        if op.ttl is None and held is not None and "ttl kept" in self.lies:
            expires = held.expires
        if "no ttl" in self.lies:
            expires = None
        data = op.data.replace(b"$", b"") if "dollar" in self.lies else op.data
        self.rows[key] = Held(data, etag, expires)
