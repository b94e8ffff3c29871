"""
A verified fake: a state store in memory that plays the rules of any profile.

``MemoryWorld`` is the store at one instant, for interleavings and the simulator; ``MemoryStore`` is a port over it, for
``StateStore("x", port=MemoryStore(profile="redis"))``. The contract suite runs over both and the real stores, so the
fake cannot drift from what it stands for.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, TypeVar

from toolkit.core.model import MISSING_ROW, OK, Reply, Row, Write
from toolkit.ports import Component
from toolkit.stores import Profile, named
from toolkit.testing._faults import Fault, Faults, Fortune

R = TypeVar("R")

_MISMATCH: Final = "possible etag mismatch. error from state store"
_SAVING: Final = "failed saving state in state store fake: "
_MULTI: Final = "error while executing state transaction: "


@dataclass(slots=True)
class Held:
    """
    One stored row.
    """

    data: bytes
    etag: str
    expires: float | None = None
    first_written: bool = False


def profile_of(name: str | Profile) -> Profile:
    """
    A profile by its short name: ``redis``, ``sqlite``, ``postgresql/v2``.
    """
    return name if isinstance(name, Profile) else named(name)


class MemoryWorld:
    """
    The rows of one store and the rules of its profile; no threads, no faults, a clock that is moved by hand.
    """

    def __init__(self, profile: str | Profile = "in-memory", *, now: float = 1_700_000_000.0) -> None:
        self.profile = profile_of(profile)
        self.rows: dict[str, Held] = {}
        self.now = now
        self._stamp = 0

    def advance(self, seconds: float) -> None:
        """
        Let time pass.
        """
        self.now += seconds

    def get(self, key: str) -> Row:
        """
        What a read sees.
        """
        held = self._live(key)
        if held is None:
            return MISSING_ROW
        return Row(held.data, held.etag if self.profile.etags else "")

    def put(self, write: Write) -> Reply:
        """
        One SaveState or DeleteState.
        """
        refusal = self._refuse(write)
        if refusal is None:
            self._store(write)
            return OK
        code, text = refusal
        return Reply(code, _SAVING + text)

    def multi(self, writes: Sequence[Write]) -> Reply:
        """
        One ExecuteStateTransaction; not atomic where the profile says so.
        """
        if self.profile.native == "none" and self.profile.type != "state.redis":
            return Reply("UNIMPLEMENTED", f"state store fake ({self.profile.type}) is not transactional")
        if self.profile.type == "state.redis":
            return self._partial(writes)
        for write in writes:
            refusal = self._refuse(write)
            if refusal is not None:
                return Reply("INTERNAL", _MULTI + refusal[1])
        for write in writes:
            self._store(write)
        return OK

    def _partial(self, writes: Sequence[Write]) -> Reply:
        last: Reply = OK
        for write in writes:
            bare = Write(
                write.key, write.data, etag=write.etag, ttl=write.ttl
            )  # first-write is not passed on
            refusal = self._refuse(bare)
            if refusal is None:
                self._store(bare)
            else:
                last = Reply("INTERNAL", _MULTI + f"ERR user_script:14: failed to set key {write.key}")
        return last

    def _live(self, key: str) -> Held | None:
        held = self.rows.get(key)
        if held is not None and held.expires is not None and self.now >= held.expires:
            if not self.profile.ghosts:
                del self.rows[key]
            return None
        return held

    def _refuse(self, write: Write) -> tuple[str, str] | None:
        """
        The code and text of a refusal, in the words of the profile's store; ``None`` when the write goes through.
        """
        if not self.profile.etags:
            return None
        held = self._live(write.key)
        redis = self.profile.type == "state.redis"
        if write.etag:
            if redis and not write.etag.isdigit():
                return "INVALID_ARGUMENT", "invalid etag value"
            if held is not None and held.etag != write.etag:
                return "ABORTED", self._mismatch(write.key)
            if held is None and not self.profile.recreates:
                return "ABORTED", self._mismatch(write.key)
            return None
        if write.data is None:
            return None
        if redis and held is not None and held.first_written:
            return "INTERNAL", f"failed to set key {write.key}: ERR user_script:14"
        if write.first_write and (held is not None or write.key in self.rows):
            return self._refuse_first_write(write.key)
        return None

    def _mismatch(self, key: str) -> str:
        script = (
            f": ERR user_script:14: failed to set key {key}" if self.profile.type == "state.redis" else ""
        )
        return _MISMATCH + script

    def _refuse_first_write(self, key: str) -> tuple[str, str] | None:
        if self.profile.first_write == "overwrites":
            return None
        text = self.profile.create_texts[0] if self.profile.create_texts else _MISMATCH
        if self.profile.first_write == "INTERNAL":
            return "INTERNAL", text
        return "ABORTED", _MISMATCH

    def _store(self, write: Write) -> None:
        held = self._live(write.key)
        if write.data is None:
            self.rows.pop(write.key, None)
            return
        expires = self.now + write.ttl if write.ttl is not None and write.ttl > 0 else None
        if write.ttl is None and self.profile.keeps_ttl and held is not None:
            expires = held.expires
        self.rows[write.key] = Held(write.data, self._next_etag(held), expires, write.first_write)

    def _next_etag(self, held: Held | None) -> str:
        if self.profile.etag_repeats:
            return str(int(held.etag) + 1) if held is not None else "1"
        self._stamp += 1
        return str(uuid.UUID(int=Random(self._stamp).getrandbits(128)))  # noqa: S311  unique and repeatable, not secret


class MemoryStore:
    """
    A port over a ``MemoryWorld`` for unit tests without a sidecar; any number of stores and threads may share it.

    >>> from toolkit import StateStore
    >>> with StateStore("unit-test", port=MemoryStore(profile="redis")) as store:
    ...     store.create("user-1", {"name": "Ada"})
    ...     store.get("user-1")
    {'name': 'Ada'}

    Args:
        profile: Whose rules to play: a short name (``redis``, ``postgresql/v2``) or a ``Profile``.
        faults: What may befall writes; none by default.
        clock: Unix time for the store's own expiry.

    Attributes:
        calls: How many calls came in, by kind.
        fired: How often each fault fired.
    """

    def __init__(
        self,
        profile: str | Profile = "in-memory",
        *,
        faults: Faults | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.world = MemoryWorld(profile)
        self.profile = self.world.profile
        self.faults = faults or Faults()
        self.calls: dict[str, int] = {"get": 0, "put": 0, "multi": 0}
        self._clock, self._lock = clock, threading.RLock()
        self._fortune = Fortune(self.faults)
        self.fired = self._fortune.fired
        self._late: deque[tuple[str, tuple[Write, ...]]] = deque()

    def next(self, *faults: Fault | None) -> None:
        """
        Script the next writes, one fault each, before any chance is drawn; ``None`` lets a write pass.

        Raises:
            ValueError: No fault has this name.
        """
        with self._lock:
            self._fortune.script(faults)

    def heal(self) -> None:
        """
        Stop all faults, forget the script, and let every late duplicate arrive.
        """
        with self._lock:
            self._fortune.end()
            self._deliver_late()

    @property
    def may_wait(self) -> bool:
        """
        Whether one of the next writes may be held back for a while.
        """
        return self._fortune.may_wait

    def connect(self, timeout: float) -> Component:
        return Component("fake", self.profile.type, self.profile.version, ("ETAG", "TRANSACTIONAL", "TTL"))

    def get(self, key: str, *, strong: bool = True, timeout: float = 1.0) -> Row | Reply:
        with self._lock:
            self.calls["get"] += 1
            self.world.now = self._clock()
            row = self.world.get(key)
        if row.missing and self.profile.missing_texts:
            return Reply("INTERNAL", f"fail to get {key}: {self.profile.missing_texts[0]}")
        return row

    def get_all(
        self, keys: Sequence[str], *, strong: bool = True, timeout: float = 1.0
    ) -> tuple[Row | Reply, ...]:
        return tuple([self.get(key) for key in keys])

    def get_bulk(self, keys: Sequence[str], *, timeout: float = 1.0) -> tuple[Row | Reply, ...]:
        return self.get_all(keys)

    def put(self, write: Write, *, timeout: float = 1.0) -> Reply:
        return self._send("put", (write,), timeout)

    def put_all(self, writes: Sequence[Write], *, timeout: float = 1.0) -> tuple[Reply, ...]:
        return tuple([self.put(write, timeout=timeout) for write in writes])

    def multi(self, writes: Sequence[Write], *, timeout: float = 1.0) -> Reply:
        return self._send("multi", tuple(writes), timeout)

    def close(self) -> None:
        """
        Nothing to close; the rows stay for the next store over the same port.
        """

    def to_async(self) -> AsyncMemoryStore:
        """
        The same store as a port for an event loop.
        """
        return AsyncMemoryStore(self)

    def _send(self, kind: str, writes: tuple[Write, ...], timeout: float) -> Reply:
        with self._lock:
            self.calls[kind] += 1
            fault = self._fortune.choose()
            held = timeout if fault == "hang" else self._fortune.hold() if fault == "delay" else 0.0
        if held:
            time.sleep(min(held, timeout))
        if fault == "hang":
            return Reply("DEADLINE_EXCEEDED", "the fake never got this message")
        lost = Reply("UNAVAILABLE", "the fake lost this message")
        with self._lock:
            self.world.now = self._clock()
            if fault == "drop_request":
                return lost
            reply = self._deliver(kind, writes)
            if fault == "duplicate":
                reply = self._deliver(kind, writes)
            self._deliver_late()
            if fault == "late_duplicate":
                self._late.append((kind, writes))
            return lost if fault == "drop_reply" else reply

    def _deliver(self, kind: str, writes: tuple[Write, ...]) -> Reply:
        return self.world.multi(writes) if kind == "multi" else self.world.put(writes[0])

    def _deliver_late(self) -> None:
        while self._late:
            self._deliver(*self._late.popleft())


class AsyncMemoryStore:
    """
    ``MemoryStore`` as an ``AsyncStatePort``; every call is a real suspension point, so that tasks interleave.
    """

    def __init__(self, store: MemoryStore) -> None:
        self.store = store

    async def _pass(self) -> None:
        import anyio.lowlevel

        await anyio.lowlevel.checkpoint()

    async def connect(self, timeout: float) -> Component:
        return self.store.connect(timeout)

    async def get(self, key: str, *, strong: bool, timeout: float) -> Row | Reply:
        await self._pass()
        return self.store.get(key)

    async def get_all(self, keys: Sequence[str], *, strong: bool, timeout: float) -> tuple[Row | Reply, ...]:
        await self._pass()
        return self.store.get_all(keys)

    async def get_bulk(self, keys: Sequence[str], *, timeout: float) -> tuple[Row | Reply, ...]:
        await self._pass()
        return self.store.get_bulk(keys)

    async def put(self, write: Write, *, timeout: float) -> Reply:
        return await self._send(lambda: self.store.put(write, timeout=timeout))

    async def put_all(self, writes: Sequence[Write], *, timeout: float) -> tuple[Reply, ...]:
        return await self._send(lambda: self.store.put_all(writes, timeout=timeout))

    async def multi(self, writes: Sequence[Write], *, timeout: float) -> Reply:
        return await self._send(lambda: self.store.multi(writes, timeout=timeout))

    async def _send(self, send: Callable[[], R]) -> R:
        await self._pass()
        if not self.store.may_wait:
            return send()
        import anyio.to_thread

        # A write that is held back must not hold up the loop.
        return await anyio.to_thread.run_sync(send)

    async def close(self) -> None:
        """
        Nothing to close.
        """
