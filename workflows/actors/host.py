"""
Actors over one gRPC stream to the sidecar: no web framework, no port of your own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final

from dapr.actor import Actor, ActorId
from dapr.actor.runtime.context import ActorRuntimeContext
from dapr.actor.runtime.grpc_host import ActorGrpcHost
from dapr.actor.runtime.runtime import ActorRuntime
from dapr.clients.grpc._channel import create_aio_channel
from dapr.conf import settings
from grpc.aio import AioRpcError

from toolkit import AsyncStateStore, SidecarUnavailableError, StateStore
from workflows.actors.fenced import FencedActor
from workflows.actors.proxy import need_asyncio

# Seconds for turns under way.
DRAIN: Final = 5.0


class _Hosting:
    """
    Whether this process hosts actors now: the SDK's registry of types belongs to the process.
    """

    active = False


@asynccontextmanager
async def host_actors(
    *types: type[Actor],
    store: AsyncStateStore | StateStore | str | None = None,
    app_port: int | None = None,
    address: str | None = None,
    startup_timeout: float = 60.0,
) -> AsyncGenerator[ActorGrpcHost]:
    """
    Serve these actors until the block is left.

    ``store`` is where fenced actors keep their state: an open ``AsyncStateStore``; or the name of a component or a store
    object that is not open, which is then opened and closed here (a ``StateStore`` gives its settings). ``app_port`` is only needed by a sidecar older than 1.18.2, which wants a gRPC app port
    before it takes actors. Leaving the block waits up to five seconds for turns under way and cancels the rest; a caller
    may hear an error all the same, since the sidecar gives up what runs on a stream that ends. One host per process at a
    time; all types are named here, since the sidecar learns of them when the stream opens.

    Raises:
        SidecarUnavailableError: The sidecar took no actors within ``startup_timeout``, or refused them.
    """
    need_asyncio("host_actors()")
    if not types:
        raise TypeError("host_actors() needs at least one actor type")
    unstored = [one.__name__ for one in types if issubclass(one, FencedActor) and one.store is None]
    if unstored and store is None:
        raise TypeError(
            f"host_actors({', '.join(unstored)}): fenced actors need store=, a name or an open store"
        )
    if _Hosting.active:
        raise RuntimeError("this process hosts actors already: name all types in one host_actors(...)")
    _Hosting.active = True
    try:
        async with AsyncExitStack() as stack:
            opened = await _opened(stack, store, address, startup_timeout)
            host = _host(address, app_port)
            stack.push_async_callback(_close, host, types)
            # A lock of the class, bound to the loop that first waited on it.
            ActorRuntime._actor_managers_lock = asyncio.Lock()  # noqa: SLF001  left behind by an earlier loop
            for one in types:
                await host.register_actor(one, actor_factory=_factory(one, opened))
            await _start(host, startup_timeout)
            yield host
    finally:
        _Hosting.active = False


class _TokenChannel:
    """
    The SDK's channel with the API token on streams, too: its own interceptor adds it to single calls alone.
    """

    def __init__(self, channel: Any, token: str) -> None:
        self._channel, self._metadata = channel, (("dapr-api-token", token),)

    def stream_stream(self, *arguments: Any, **options: Any) -> Any:
        return partial(self._channel.stream_stream(*arguments, **options), metadata=self._metadata)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)


def _host(address: str | None, app_port: int | None) -> ActorGrpcHost:
    host: Any = ActorGrpcHost(address=address, app_port=app_port)
    if token := settings.DAPR_API_TOKEN:
        host._channel = _TokenChannel(create_aio_channel(address), token)  # noqa: SLF001  it takes none
    made: ActorGrpcHost = host
    return made


async def _opened(
    stack: AsyncExitStack,
    store: AsyncStateStore | StateStore | str | None,
    address: str | None,
    timeout: float,
) -> AsyncStateStore | None:
    match store:
        case None:
            return None
        case str():
            store = AsyncStateStore(store, address=address, startup_timeout=timeout)
        case StateStore():
            # Turns run on the loop, which it would block.
            store = AsyncStateStore.like(store, startup_timeout=timeout)
        case AsyncStateStore():
            pass
        case _:
            raise TypeError(
                f"host_actors(store={store!r}): pass an AsyncStateStore or the name of a state store component"
            )
    return store if store.is_open else await stack.enter_async_context(store)


async def _start(host: ActorGrpcHost, startup_timeout: float) -> None:
    try:
        async with asyncio.timeout(startup_timeout):
            await host.start()
    except TimeoutError:
        raise SidecarUnavailableError(
            f"no sidecar took the actors within {startup_timeout:g} s: start daprd 1.18 or newer with placement and "
            f"scheduler (occ run --workflows does), and give older ones than 1.18.2 --app-protocol grpc and app_port="
        ) from None
    except AioRpcError as error:
        raise SidecarUnavailableError(
            f"the sidecar refused the actors ({error.code().name}: {error.details()}): it has to be daprd 1.18 or newer, "
            f"started with placement and scheduler (occ run --workflows does), and to know the DAPR_API_TOKEN of this process"
        ) from error


async def _close(host: ActorGrpcHost, types: tuple[type[Actor], ...]) -> None:
    # The SDK's own close cuts the stream first, and no caller hears the answers of the turns it then waits for.
    untyped: Any = host
    under_way: list[asyncio.Task[None]] = list(untyped._dispatch_tasks)  # noqa: SLF001  told nowhere else
    if under_way:
        _, late = await asyncio.wait(under_way, timeout=DRAIN)
        # The SDK would wait for them as long again.
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
    await host.close()
    for one in types:
        # Their client's channel is closed: the next host must not announce them.
        ActorRuntime._actor_managers.pop(one.__name__, None)  # noqa: SLF001  the SDK has no way to unregister
    config = ActorRuntime.get_actor_config()
    config._entities.difference_update(one.__name__ for one in types)  # noqa: SLF001  the same


def _factory(kind: type[Actor], store: AsyncStateStore | None) -> Any:
    def create(context: ActorRuntimeContext, actor_id: ActorId) -> Actor:
        actor = kind(context, actor_id)
        if isinstance(actor, FencedActor) and store is not None:
            actor.store = store
        return actor

    return create
