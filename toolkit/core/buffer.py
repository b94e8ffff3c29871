"""
What one attempt of a transaction has read and means to write, until its body is through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from toolkit.core.model import CLEAR, TTL
from toolkit.core.seen import Seen


class Buffered(msgspec.Struct):
    """
    A pending write.
    """

    value: Any
    ttl: TTL = CLEAR
    must_be_new: bool = False


class Buffer(msgspec.Struct):
    """
    What one attempt of the body has read and means to write; a savepoint is a copy of the second half.

    Attributes:
        glimpsed: The versions of what was only peeked at, for keys that are guarded as well.
    """

    reads: dict[str, Seen] = msgspec.field(default_factory=dict[str, Seen])
    shown: dict[str, tuple[Seen, str]] = msgspec.field(default_factory=dict[str, tuple[Seen, str]])
    peeked: dict[str, Seen] = msgspec.field(default_factory=dict[str, Seen])
    glimpsed: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    writes: dict[str, Buffered] = msgspec.field(default_factory=dict[str, Buffered])
    guards: set[str] = msgspec.field(default_factory=set[str])
    after: list[Callable[[], Any]] = msgspec.field(default_factory=list[Callable[[], Any]])

    def save(self) -> tuple[dict[str, Buffered], set[str], list[Callable[[], Any]]]:
        return dict(self.writes), set(self.guards), list(self.after)

    def restore(self, saved: tuple[dict[str, Buffered], set[str], list[Callable[[], Any]]]) -> None:
        self.writes, self.guards, self.after = saved

    def drop(self) -> None:
        """
        Forget what was to be written.
        """
        self.restore(({}, set(), []))
