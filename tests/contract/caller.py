"""
One way to call a store in either colour and on either event loop, so that one suite holds for all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import anyio.from_thread

from toolkit import AsyncStateStore, StateStore
from toolkit.core.model import Reply, Row, Write
from toolkit.dapr.address import Token, address_of
from toolkit.dapr.port import GrpcPort
from toolkit.testing.memory import MemoryStore

COLOURS: Final = ("sync", "asyncio", "trio")


class Caller:
    """
    Blocking calls on a store of any colour: the methods of ``StateStore``.
    """

    def __init__(self, store: Any, portal: anyio.from_thread.BlockingPortal | None = None) -> None:
        self.store, self.portal = store, portal

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.store, name)
        if self.portal is None or not callable(method):
            return method
        portal = self.portal
        return lambda *args, **kwargs: portal.call(partial(method, *args, **kwargs))

    def run(self, work: Callable[..., Any], *args: Any) -> Any:
        """Run something of the caller's colour where the store lives."""
        return work(*args) if self.portal is None else self.portal.call(work, *args)


@contextlib.contextmanager
def opened(colour: str, name: str, **options: Any) -> Iterator[Caller]:
    """
    An open store of a colour.
    """
    if colour == "sync":
        with StateStore(name, **options) as store:
            yield Caller(store)
        return
    with (
        anyio.from_thread.start_blocking_portal(colour) as portal,
        portal.wrap_async_context_manager(AsyncStateStore(name, **options)) as store,
    ):
        yield Caller(store, portal)


@dataclass(frozen=True)
class Place:
    """
    A store component to test on, and the way past the toolkit.

    Attributes:
        name: The component, or the profile a ``MemoryStore`` plays.
        port: A sync port for what plain writers do.
        options: What a store object needs to get there.
    """

    name: str
    port: Any
    options: dict[str, Any]

    def open(self, colour: str = "sync", **options: Any) -> contextlib.AbstractContextManager[Caller]:
        return opened(colour, self.name, **{**self.options, **options})

    def raw(self, key: str) -> Row:
        row = self.port.get(key, strong=True, timeout=5.0)
        assert isinstance(row, Row), row
        return row

    def put(self, key: str, data: bytes | None, *, etag: str | None = None, ttl: int | None = None) -> Reply:
        reply = self.port.put(Write(key, data, etag=etag, ttl=ttl), timeout=5.0)
        assert isinstance(reply, Reply)
        return reply


def memory(profile: str) -> Place:
    """
    A store in memory that plays a profile.
    """
    port = MemoryStore(profile=profile)
    return Place(profile, port, {"port": port})


@contextlib.contextmanager
def sidecar(name: str, address: str, **options: Any) -> Iterator[Place]:
    """
    A store behind a real sidecar.
    """
    port = GrpcPort(name, address_of(address), Token(options.get("api_token")))
    port.connect(10.0)
    try:
        yield Place(name, port, {"address": address, **options})
    finally:
        port.close()
