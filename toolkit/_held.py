"""
State stores that a ``Dapr`` object gives out: they connect with their first call and are closed by it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypedDict, Unpack

import anyio

from toolkit._rights import AccessRule, check_access
from toolkit.async_store import AsyncStateStore
from toolkit.codec import ValueCodec
from toolkit.core.policy import RetryPolicy
from toolkit.store import StateStore
from toolkit.stores import Profile

if TYPE_CHECKING:
    from toolkit.facade import AsyncDapr, Dapr


class StoreSettings(TypedDict, total=False):
    """
    What ``StateStore`` takes beside its name, its place and its rights.
    """

    retry: RetryPolicy | None
    envelope: bool
    codec: ValueCodec | None
    op_window: float
    op_ttl: float
    lease: float
    clock_skew: float
    profile: Profile | Path | str | None
    accept_unverified: bool
    last_write: bool
    port: Any


class StoreOptions(StoreSettings, total=False):
    """
    The same with the rights.
    """

    access: AccessRule


def handle_of(name: str, options: StoreOptions) -> tuple[Any, ...]:
    """
    What tells two handles on one store apart; a mapping of rights counts by what it says.
    """
    given: list[tuple[str, Any]] = sorted(options.items())
    rights = options.get("access")
    if rights is not None:
        check_access(rights)
    if isinstance(rights, Mapping):
        given = [(option, value) for option, value in given if option != "access"]
        given.append(("access", tuple(sorted((prefix, rights[prefix].value) for prefix in rights))))
    return name, *given


class HeldStore(StateStore):
    """
    A store that connects with its first call and is closed by its ``Dapr``.
    """

    _connecting: threading.Lock
    _over = False

    def __init__(self, name: str, *, dapr: Dapr, **options: Unpack[StoreOptions]) -> None:
        super().__init__(name, dapr=dapr, **options)
        self._connecting = threading.Lock()

    def connect(self) -> None:
        """
        Connect unless that is done.
        """
        if self._site is not None:
            return
        with self._connecting:
            if self._over:
                raise RuntimeError(f"{self!r}: its Dapr object was closed")
            if self._site is None:
                super().__enter__()

    def let_go(self, timeout: float | None) -> None:
        """
        Close it for good.
        """
        with self._connecting:
            self._over = True
        self.close(timeout)

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """
        Leave it to the ``Dapr``: others may be using it.
        """


class AsyncHeldStore(AsyncStateStore):
    """
    A store that connects with its first call and is closed by its ``AsyncDapr``.
    """

    def __init__(self, name: str, *, dapr: AsyncDapr, **options: Unpack[StoreOptions]) -> None:
        super().__init__(name, dapr=dapr, **options)
        self._owner = dapr
        self._connecting: anyio.Lock | None = None

    def opened(self) -> _Opened:
        return _Opened(self)

    async def connect(self) -> None:
        """
        Connect unless that is done.
        """
        if self._site is not None:
            return
        if not self._owner.is_open:
            raise RuntimeError(f"{self!r}: its AsyncDapr object was closed")
        if self._connecting is None:
            self._connecting = anyio.Lock()
        async with self._connecting:
            if self._site is None:
                await self._owner.host(self)

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """
        Leave it to the ``AsyncDapr``: others may be using it.
        """

    async def close(self, timeout: float | None = 10.0) -> None:
        """
        The same.
        """


class _Opened:
    """
    The plain life of a held store, around the one its users see.
    """

    def __init__(self, store: AsyncHeldStore) -> None:
        self.store = store

    async def __aenter__(self) -> None:
        await AsyncStateStore.__aenter__(self.store)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await AsyncStateStore.__aexit__(self.store, kind, error, at)


def _connecting(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: HeldStore, *args: Any, **kwargs: Any) -> Any:
        self.connect()
        return method(self, *args, **kwargs)

    return call


def _connecting_async(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(method)
    async def call(self: AsyncHeldStore, *args: Any, **kwargs: Any) -> Any:
        await self.connect()
        return await method(self, *args, **kwargs)

    return call


# What users call on a store; any of it may be the first call.
CALLS: Final = (
    "compare_and_set",
    "create",
    "delete",
    "get",
    "get_many",
    "outcome",
    "read",
    "resolve",
    "set",
    "snapshot",
    "transact",
    "update",
    "void",
)
for _name in CALLS:
    setattr(HeldStore, _name, _connecting(getattr(StateStore, _name)))
    setattr(AsyncHeldStore, _name, _connecting_async(getattr(AsyncStateStore, _name)))
