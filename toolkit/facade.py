"""
One object for a sidecar: state stores, secrets and configuration, in both colours.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, Unpack, cast

import anyio
import anyio.abc
import anyio.to_thread

from toolkit._held import AsyncHeldStore, HeldStore, StoreOptions, StoreSettings, handle_of
from toolkit._rights import AccessRule, check_access
from toolkit._underway import AsyncUnderWay
from toolkit.async_store import AsyncStateStore
from toolkit.core.model import Access
from toolkit.dapr.address import Token, TokenSource, address_of
from toolkit.store import StateStore

if TYPE_CHECKING:
    from toolkit.dapr.configuration import AsyncConfigs, Configs
    from toolkit.dapr.link import Link
    from toolkit.dapr.secrets import AsyncSecrets, Secrets

R = TypeVar("R")

_THREADS: Final = 64


class BaseDapr:
    """
    Settings of both colours; see ``Dapr``.
    """

    def __init__(
        self,
        *,
        address: str | None = None,
        api_token: TokenSource | None = None,
        startup_timeout: float = 60.0,
        state_store: str | None = None,
        secret_store: str | None = None,
        config_store: str | None = None,
        access: AccessRule = Access.READ,
        **state: Unpack[StoreSettings],
    ) -> None:
        # Found out now rather than at the first call; nothing is sent.
        self._shown = str(address_of(address))
        self._address, self._api_token = address, Token.of(api_token)
        self.startup_timeout, self.access = startup_timeout, check_access(access)
        self.state_store, self.secret_store, self.config_store = state_store, secret_store, config_store
        if state and state_store is None:
            raise TypeError(f"{', '.join(state)}: settings of the state store, but state_store= names none")
        self._state_settings = state
        self._link: Link | None = None
        self._open = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self._shown} ({'open' if self._open else 'closed'})>"

    @property
    def is_open(self) -> bool:
        """
        Whether this object has been entered and not been closed since.
        """
        return self._open

    @property
    def state_settings(self) -> StoreSettings:
        """
        The settings of ``states``, as they were given; ``StateStore(name, dapr=dapr, **dapr.state_settings)`` has them too.
        """
        return self._state_settings.copy()

    def _make_link(self) -> Link:
        from toolkit.dapr.link import Link

        return Link(address_of(self._address), self._api_token, self.startup_timeout)

    def _wanted(self) -> dict[str, str] | None:
        """
        What has to be there by kind; ``None`` when the state store alone waits for the sidecar.
        """
        named = {"secretstores": self.secret_store, "configuration": self.config_store}
        wanted = {kind: name for kind, name in named.items() if name is not None}
        return None if self.state_store is not None and not wanted else wanted

    def _named(self, name: str | None, argument: str) -> tuple[Link, str]:
        self._check_open()
        if name is None or self._link is None:
            raise RuntimeError(f"{self!r} names no such store: open it with {argument}='...'")
        return self._link, name

    def _check_open(self) -> None:
        if not self._open:
            raise RuntimeError(
                f"{self!r} is not open: use it inside `with {type(self).__name__}(...) as dapr:`"
            )


class Dapr(BaseDapr):
    """
    A sidecar: its state stores, its secrets and its configuration.

    Entering it waits for the sidecar and for the stores that are named. Reading is allowed; writing and removing are
    opt-in by ``access``, for all stores or for one: ``dapr.state("carts", access={"cart-": Access.ALL, "": Access.READ})``.
    Secrets and configuration can only be read. Thread-safe. Each state store has a connection of its own; secrets and
    configuration share one.

    Args:
        address: The sidecar; else from ``DAPR_GRPC_ENDPOINT`` or ``DAPR_RUNTIME_HOST`` and ``DAPR_GRPC_PORT``.
        api_token: A text, a path or a callable; else ``DAPR_API_TOKEN``. It belongs to this object and is shown nowhere.
        startup_timeout: Seconds to wait for a sidecar that comes late.
        state_store: The component behind ``states``.
        secret_store: The component behind ``secrets``.
        config_store: The component behind ``configs``.
        access: What state stores of this object may do unless they are given rights of their own, or a mapping from
            key prefix to that (the longest prefix wins).
        **state: Settings of ``states``, as ``StateStore`` takes them: ``retry=``, ``profile=`` and so on.

    >>> from toolkit import Access, Dapr
    >>> from toolkit.testing import MemoryStore
    >>> with Dapr(state_store="statestore", access=Access.ALL, port=MemoryStore()) as dapr:
    ...     dapr.states.create("user-1", {"name": "Ada"})
    ...     dapr.states.get("user-1")
    {'name': 'Ada'}
    """

    def __enter__(self) -> Self:
        if self._open:
            raise RuntimeError(f"{self!r} is already open")
        wanted = self._wanted()
        link = self._make_link()
        self._held: dict[tuple[Any, ...], HeldStore] = {}
        self._lock = threading.Lock()
        try:
            if wanted is not None:
                link.connect(wanted)
            self._link, self._open = link, True
            if self.state_store is not None:
                self._states = self._hold(self.state_store, cast("StoreOptions", self._state_settings))
                self._states.connect()
        except BaseException:
            self._open = False
            link.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def close(self, timeout: float | None = 10.0) -> None:
        """
        End watches, let calls on state stores finish for so many seconds, and hang up.
        """
        if not self._open:
            return
        self._open = False
        if self._link is not None:
            self._link.close()
        with self._lock:
            held, self._held = list(self._held.values()), {}
        for store in held:
            store.let_go(timeout)

    @property
    def states(self) -> StateStore:
        """
        The state store that ``state_store`` names, with the rights of this object.
        """
        self._named(self.state_store, "state_store")
        return self._states

    @property
    def secrets(self) -> Secrets:
        """
        The secrets of ``secret_store``.
        """
        from toolkit.dapr.secrets import Secrets

        return Secrets(*self._named(self.secret_store, "secret_store"))

    @property
    def configs(self) -> Configs:
        """
        The configuration of ``config_store``.
        """
        from toolkit.dapr.configuration import Configs

        return Configs(*self._named(self.config_store, "config_store"))

    def state(self, name: str, **options: Unpack[StoreOptions]) -> StateStore:
        """
        A state store of this sidecar by name, with rights and settings of its own.

        It connects with its first call and is closed with this object; a ``with`` block is allowed and not needed. The
        same name with the same options is the same store, so that handlers may ask for it each time.
        """
        self._check_open()
        return self._hold(name, options)

    def _hold(self, name: str, options: StoreOptions) -> HeldStore:
        key = handle_of(name, options)
        with self._lock:
            if key not in self._held:
                self._held[key] = HeldStore(name, dapr=self, **options)
            return self._held[key]


class AsyncDapr(BaseDapr):
    """
    ``Dapr`` for asyncio and trio; the same names, awaited where they talk to the sidecar.

    Secrets and configuration go through worker threads, on asyncio too: both are read seldom.
    """

    async def __aenter__(self) -> Self:
        if self._open:
            raise RuntimeError(f"{self!r} is already open")
        link = self._make_link()
        self._held: dict[tuple[Any, ...], AsyncHeldStore] = {}
        self._limiter = anyio.CapacityLimiter(_THREADS)
        self._over, self._hosting = anyio.Event(), AsyncUnderWay()
        self._stack = stack = AsyncExitStack()
        stack.callback(link.close)
        try:
            wanted = self._wanted()
            if wanted is not None:
                await self._in_thread(lambda: link.connect(wanted))
            self._group = await stack.enter_async_context(anyio.create_task_group())
            # Before the group waits for its tasks, which hold the stores open.
            stack.callback(self._over.set)
            self._link, self._open = link, True
            stack.callback(self._shut)
            if self.state_store is not None:
                self._states = self._hold(self.state_store, cast("StoreOptions", self._state_settings))
                await self._states.connect()
        except BaseException:
            # Not through the group, which would wrap the error.
            await stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        # Without the error: the stores end in order, whatever ended the block.
        await self._stack.__aexit__(None, None, None)

    async def close(self, timeout: float | None = 10.0) -> None:
        """
        End watches, let calls on state stores finish for so many seconds; the end of ``async with`` hangs up.
        """
        if not self._open or self._link is None:
            return
        self._shut()
        self._link.close()
        self._over.set()
        with anyio.move_on_after(timeout):
            await self._hosting.drain()

    def _shut(self) -> None:
        self._open = False

    async def _in_thread(self, call: Callable[[], R]) -> R:
        """
        Run a read in a worker thread; a cancelled caller does not wait for it.
        """
        return await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._limiter)

    @property
    def states(self) -> AsyncStateStore:
        """
        See ``Dapr.states``.
        """
        self._named(self.state_store, "state_store")
        return self._states

    @property
    def secrets(self) -> AsyncSecrets:
        """
        See ``Dapr.secrets``.
        """
        from toolkit.dapr.secrets import AsyncSecrets, Secrets

        return AsyncSecrets(Secrets(*self._named(self.secret_store, "secret_store")), self._in_thread)

    @property
    def configs(self) -> AsyncConfigs:
        """
        See ``Dapr.configs``.
        """
        from toolkit.dapr.configuration import AsyncConfigs, Configs

        return AsyncConfigs(Configs(*self._named(self.config_store, "config_store")), self._in_thread)

    def state(self, name: str, **options: Unpack[StoreOptions]) -> AsyncStateStore:
        """
        See ``Dapr.state``; ``async with`` is allowed and not needed.
        """
        self._check_open()
        return self._hold(name, options)

    def _hold(self, name: str, options: StoreOptions) -> AsyncHeldStore:
        key = handle_of(name, options)
        if key not in self._held:
            self._held[key] = AsyncHeldStore(name, dapr=self, **options)
        return self._held[key]

    async def _host(self, store: AsyncHeldStore, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """
        Hold one store open: its task group has to be left by the task that entered it.
        """
        with self._hosting:
            async with store.opened():
                task_status.started()
                await self._over.wait()

    async def host(self, store: AsyncHeldStore) -> None:
        """
        Open a store for as long as this object is open.
        """
        await self._group.start(functools.partial(self._host, store))
