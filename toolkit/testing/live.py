"""
One real sidecar in front of every store whose server runs on this machine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Any, Final, Self

from toolkit.sidecar import Binaries, ServerUnavailable, Sidecar, component
from toolkit.sidecar.process import ProcessSet
from toolkit.testing._server import Server, remove_tree
from toolkit.testing.servers import EtcdServer, MariaDBServer, PostgresServer, RedisServer

# The stores that the toolkit protects and that can run here; each is the name of its component too.
PROTECTED: Final = ("in-memory", "sqlite", "redis", "postgresql-v1", "postgresql-v2", "mysql")
# With those that it refuses.
ALL: Final = (*PROTECTED, "etcd")

_SERVER_OF: Final[dict[str, type[Server]]] = {
    "redis": RedisServer,
    "postgresql-v1": PostgresServer,
    "postgresql-v2": PostgresServer,
    "mysql": MariaDBServer,
    "etcd": EtcdServer,
}


class LiveStores:
    """
    Servers and sidecar as one context manager; the first store of a server starts it.

    Attributes:
        sidecar: The running sidecar; the component of each store has the store's name.
        missing: Stores whose server is not installed here, with the reason that says what to install.
        servers: The running servers, by the names of their stores.
    """

    def __init__(
        self, stores: Collection[str] = ALL, *, binaries: Binaries | None = None, **options: Any
    ) -> None:
        unknown = sorted(set(stores) - set(ALL))
        if unknown:
            raise ValueError(f"no such store: {', '.join(unknown)}; there are {', '.join(ALL)}")
        self.missing: dict[str, str] = {}
        self.servers: dict[str, Server] = {}
        self._stores = tuple(stores)
        self._binaries = binaries
        self._options = options
        self._sidecar: Sidecar | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            components = [*self._components(stack), *self._options.pop("components", ())]
            sidecar = Sidecar(components=components, binaries=self._binaries, **self._options)
            self._sidecar = stack.enter_context(sidecar)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def sidecar(self) -> Sidecar:
        if self._sidecar is None:
            raise RuntimeError("enter the LiveStores first")
        return self._sidecar

    def require(self, store: str) -> str:
        """
        The name of the store's component, or ``ServerUnavailable`` with the reason why it is not here.
        """
        if store in self.missing:
            raise ServerUnavailable(self.missing[store])
        if store not in self._stores:
            raise ValueError(f"{store} was not asked for when these LiveStores were made")
        return store

    def _components(self, stack: contextlib.ExitStack) -> Iterable[dict[str, Any]]:
        started: dict[type[Server], Server] = {}
        for store in self._stores:
            kind = _SERVER_OF.get(store)
            if kind is None:
                yield _embedded(store, stack)
                continue
            try:
                server = started.get(kind) or stack.enter_context(kind())
            except ServerUnavailable as error:
                self.missing[store] = str(error)
                continue
            started[kind] = self.servers[store] = server
            yield _component_maker(store, server)(store)


def _component_maker(store: str, server: Server) -> Callable[[str], dict[str, Any]]:
    if store == "postgresql-v1" and isinstance(server, PostgresServer):
        return server.component_v1
    return server.component


def _embedded(store: str, stack: contextlib.ExitStack) -> dict[str, Any]:
    if store == "in-memory":
        return component(store, "state.in-memory")
    directory = Path(mkdtemp(prefix="occ-sqlite-"))
    stack.callback(remove_tree, directory)
    # Runs nothing; its watchdog removes the directory when this process is killed.
    stack.enter_context(ProcessSet(directory))
    settings = {"connectionString": f"file:{directory / 'state.db'}", "busyTimeout": "5s"}
    return component(store, "state.sqlite", metadata=settings)
