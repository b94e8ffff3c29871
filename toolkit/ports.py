"""
What the toolkit needs of a store: one small protocol per colour.

An implementation answers, it does not judge: whatever came back is a ``Row`` or a ``Reply``, and failures of the
transport are replies too. It never retries, always sends the deadline it was given, and never raises for what a store
or a network does. ``toolkit.dapr`` talks to a sidecar, ``toolkit.testing.MemoryStore`` plays every store's rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from toolkit.core.model import Reply, Row, Write


class Component(msgspec.Struct, frozen=True):
    """
    What the sidecar says of a component: its name, type, version and claimed capabilities.
    """

    name: str
    type: str
    version: str
    capabilities: tuple[str, ...] = ()


class StatePort(Protocol):
    """
    A state store, called from any thread; timeouts are seconds.
    """

    def connect(self, timeout: float) -> Component:
        """
        Wait for the store to answer and say what it is.
        """
        ...

    def get(self, key: str, *, strong: bool, timeout: float) -> Row | Reply: ...
    def get_all(self, keys: Sequence[str], *, strong: bool, timeout: float) -> tuple[Row | Reply, ...]: ...
    def get_bulk(self, keys: Sequence[str], *, timeout: float) -> tuple[Row | Reply, ...]: ...
    def put(self, write: Write, *, timeout: float) -> Reply: ...
    def put_all(self, writes: Sequence[Write], *, timeout: float) -> tuple[Reply, ...]: ...
    def multi(self, writes: Sequence[Write], *, timeout: float) -> Reply: ...
    def close(self) -> None: ...


class AsyncStatePort(Protocol):
    """
    The same for one event loop.
    """

    async def connect(self, timeout: float) -> Component: ...
    async def get(self, key: str, *, strong: bool, timeout: float) -> Row | Reply: ...
    async def get_all(
        self, keys: Sequence[str], *, strong: bool, timeout: float
    ) -> tuple[Row | Reply, ...]: ...
    async def get_bulk(self, keys: Sequence[str], *, timeout: float) -> tuple[Row | Reply, ...]: ...
    async def put(self, write: Write, *, timeout: float) -> Reply: ...
    async def put_all(self, writes: Sequence[Write], *, timeout: float) -> tuple[Reply, ...]: ...
    async def multi(self, writes: Sequence[Write], *, timeout: float) -> Reply: ...
    async def close(self) -> None: ...
