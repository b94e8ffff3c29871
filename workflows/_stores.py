"""
The stores behind a kit: one for sync effects, one on a loop of its own for async ones.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from toolkit.async_store import AsyncStateStore
from toolkit.facade import Dapr
from toolkit.store import StateStore


class Stores:
    """
    Opens each store when it is first needed and closes what it opened.

    Async effects run on one loop in a thread of its own, not on the worker's: the worker's loop ends before effects
    under way do, and their store has to outlive them.
    """

    def __init__(self, store: str | StateStore | Dapr, address: str | None, port: Any) -> None:
        self._given = store if isinstance(store, StateStore) and store.is_open else None
        self._model = _model(store, address, port)
        self._timeout: float | None = None
        self.name: str = self._model.name
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._sync: StateStore | None = self._given
        self._async: tuple[BlockingPortal, AsyncStateStore] | None = None

    def limit(self, timeout: float) -> None:
        """
        How long opening may wait for the sidecar.
        """
        self._timeout = timeout

    def sync(self) -> StateStore:
        """
        The store of sync effects, open.
        """
        with self._lock:
            if self._sync is None:
                self._sync = self._stack.enter_context(
                    StateStore.like(self._model, startup_timeout=self._timeout)
                )
            return self._sync

    def on_loop(self) -> tuple[BlockingPortal, AsyncStateStore]:
        """
        The store of async effects, open, and the way into its loop.
        """
        with self._lock:
            if self._async is None:
                with ExitStack() as opening:
                    portal = opening.enter_context(start_blocking_portal("asyncio", name="occ-effects"))
                    store = AsyncStateStore.like(self._model, startup_timeout=self._timeout)
                    opening.enter_context(portal.wrap_async_context_manager(store))
                    self._stack.push(opening.pop_all())
                    self._async = portal, store
            return self._async

    def close(self) -> None:
        """
        Close what was opened here; a store that was given open stays open.
        """
        with self._lock:
            self._sync, self._async = self._given, None
            stack, self._stack = self._stack, ExitStack()
        stack.close()


def _model(store: str | StateStore | Dapr, address: str | None, port: Any) -> StateStore:
    """
    A store object that has the settings of those to be opened; it is not opened itself.
    """
    if isinstance(store, str):
        return StateStore(store, address=address, port=port)
    if address is not None or port is not None:
        raise TypeError("address= and port= belong to a store that is named; the object given has its own")
    if isinstance(store, StateStore):
        return store
    given: Any = store
    if not isinstance(given, Dapr):
        raise TypeError(
            f"store must be the name of a state store component, a StateStore or a Dapr, not {given!r}"
        )
    if store.state_store is None:
        raise TypeError(f"{store!r} names no state store: Dapr(state_store='...')")
    return StateStore(store.state_store, dapr=store, **store.state_settings)
