"""
A number that many add to at once, spread over several keys.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from toolkit._checks import check_key, check_op_id
from toolkit.errors import CorruptValueError

if TYPE_CHECKING:
    from collections.abc import Callable

    from toolkit.async_store import AsyncStateStore
    from toolkit.store import StateStore


class _Shards:
    """
    What both colours share: the keys, the choice among them, and what is in them.
    """

    def __init__(self, key: str, shards: int) -> None:
        check_key(key)
        if isinstance(shards, bool) or not isinstance(shards, int):
            raise TypeError(f"shards must be a whole number, not {shards!r}")
        if shards < 1:
            raise ValueError(f"shards must be at least 1, not {shards}")
        self.key = key
        self.keys = tuple(f"{key}-{number}" for number in range(shards))

    def shard(self, op_id: str | None) -> str:
        """
        Any shard; with an id always the same one, so that a repeat meets the first attempt there.
        """
        if op_id is None:
            return random.choice(self.keys)  # noqa: S311  spreads the load, protects nothing
        # crc32 and not hash(), which differs from process to process.
        return self.keys[zlib.crc32(check_op_id(op_id).encode()) % len(self.keys)]

    def total(self, found: Mapping[str, Any]) -> int:
        return sum(_number(value, key) for key, value in found.items())


def _number(value: Any, key: str) -> int:
    number: Any = cast("dict[str, Any]", value).get("n") if isinstance(value, dict) else None
    if isinstance(number, bool) or not isinstance(number, int):
        message = f"key {key!r} holds no part of a counter, which is an object like {{'n': 3}}; name another counter"
        raise CorruptValueError(message, key=key)
    return number


def _adding(n: int, key: str) -> Callable[[Any], Any]:
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"add takes a whole number, not {n!r}")

    def add(value: Any) -> Any:
        return {"n": n} if value is None else {**value, "n": _number(value, key) + n}

    add.__qualname__ = "Counter.add"  # its name in the log, and part of what an op_id belongs to
    return add


class Counter:
    """
    A whole number that many add to at once and few read.

    It is kept in ``shards`` keys, ``<key>-0`` and so on, each an object ``{"n": …}``; one that was never added to
    counts as 0. An addition touches one shard, so different processes rarely meet; reading asks for all of them. One
    process alone gains nothing from shards: its additions to one key already share their writes.

    The number of shards may grow when no addition can be repeated any more, but never shrink.

    Args:
        store: An open store.
        key: What the keys of the shards begin with.
        shards: How many; about as many as there are processes that add.
    """

    def __init__(self, store: StateStore, key: str, shards: int = 8) -> None:
        self._store, self._shards = store, _Shards(key, shards)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._shards.key!r}, shards={len(self._shards.keys)})"

    def add(self, n: int = 1, *, op_id: str | None = None) -> None:
        """
        Add a whole number, which may be negative.

        Args:
            n: How much.
            op_id: Names the intended effect. A repeat within the store's ``op_window`` adds nothing, whatever its ``n``.

        Raises:
            CorruptValueError: The key of the shard holds something else.
            AttemptsExhaustedError: Every attempt lost; nothing was added.
            OutcomeUnknownError: It may or may not have been added; carries a receipt.
        """
        key = self._shards.shard(op_id)
        self._store.update(key, _adding(n, key), default=None, op_id=op_id)

    def value(self) -> int:
        """
        The exact sum, as all shards stood together at one moment.

        Raises:
            SnapshotUnstableError: The shards kept changing until the deadline.
            CorruptValueError: A key of a shard holds something else.
        """
        return self._shards.total(self._store.snapshot(self._shards.keys))


class AsyncCounter:
    """
    ``Counter`` on an ``AsyncStateStore``.
    """

    def __init__(self, store: AsyncStateStore, key: str, shards: int = 8) -> None:
        self._store, self._shards = store, _Shards(key, shards)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._shards.key!r}, shards={len(self._shards.keys)})"

    async def add(self, n: int = 1, *, op_id: str | None = None) -> None:
        """
        See ``Counter.add``.
        """
        key = self._shards.shard(op_id)
        await self._store.update(key, _adding(n, key), default=None, op_id=op_id)

    async def value(self) -> int:
        """
        See ``Counter.value``.
        """
        return self._shards.total(await self._store.snapshot(self._shards.keys))
