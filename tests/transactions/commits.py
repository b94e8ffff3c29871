"""
Bodies and a store that counts, for tests of commits on the fake.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from toolkit import RetryPolicy
from toolkit.core.model import Reply, Row, Write
from toolkit.testing.memory import MemoryStore

PATHS = {"postgresql/v2": "native", "redis": "intents", "in-memory": "native"}
QUICK = RetryPolicy(deadline=1.0)


class Steps(MemoryStore):
    """Counts round trips: calls made together are one."""

    def __init__(self, profile: str) -> None:
        super().__init__(profile)
        self.trips = 0

    def get(self, key: str, **options: Any) -> Row | Reply:
        self.trips += 1
        return super().get(key, **options)

    def put(self, write: Write, **options: Any) -> Reply:
        self.trips += 1
        return super().put(write, **options)

    def multi(self, writes: Any, **options: Any) -> Reply:
        self.trips += 1
        return super().multi(writes, **options)

    def get_all(self, keys: Any, **options: Any) -> Any:
        return self._together(lambda: super(Steps, self).get_all(keys, **options))

    def put_all(self, writes: Any, **options: Any) -> Any:
        return self._together(lambda: super(Steps, self).put_all(writes, **options))

    def _together(self, call: Callable[[], Any]) -> Any:
        before = self.trips
        answer = call()
        self.trips = before + 1
        return answer


def move(tx: Any) -> None:
    found = tx.get_many(["a", "b"])
    for key in "ab":
        tx.put(key, {"n": found.get(key, {"n": 0})["n"] + 1})


def add(tx: Any) -> None:
    tx.put("a", {"n": tx.get("a")["n"] + 1})


def skew(tx: Any, mine: str, other: str) -> None:
    if tx.get(other) is None:
        tx.put(mine, {"n": 1})
