"""
``Dapr`` and ``AsyncDapr`` without a sidecar: rights, handles, and what is refused before anything is sent.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest

from toolkit import (
    Access,
    AccessDeniedError,
    AsyncDapr,
    AsyncStateStore,
    Dapr,
    SidecarUnavailableError,
    StateStore,
)
from toolkit._held import CALLS
from toolkit.dapr.address import Token
from toolkit.log import capture
from toolkit.testing import MemoryStore

NOBODY = "127.0.0.1:1"
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def run(backend: str, call: Callable[[], Awaitable[None]]) -> None:
    anyio.run(call, backend=backend)


def test_writing_and_removing_are_opt_in():
    """
    A Dapr made without access= reads only; the refusal names the right and is an event.
    """
    with Dapr(state_store="s", port=MemoryStore()) as dapr, capture() as events:
        assert dapr.states.get("k") is None
        for call in (lambda: dapr.states.set("k", {}), lambda: dapr.states.create("k", {})):
            with pytest.raises(AccessDeniedError, match="WRITE"):
                call()
        with pytest.raises(AccessDeniedError, match=r"access=Access\.REMOVE or"):
            dapr.states.delete("k")
    assert [("occ.access_denied", "s", "k")] * 3 == [
        (event.name, event.fields["store"], event.fields["key"]) for event in events
    ]


@BACKENDS
@pytest.mark.parametrize(
    "waiting",
    [
        partial(AsyncStateStore, "s", address=NOBODY),
        partial(AsyncDapr, state_store="s", address=NOBODY),
        partial(AsyncDapr, secret_store="s", address=NOBODY),
    ],
)
def test_the_wait_for_a_sidecar_can_be_cancelled(backend, waiting):
    """
    Whoever cancels waits neither for the sidecar nor for the time-out, and no thread goes on waiting.
    """

    async def main() -> None:
        entered = waiting()
        with anyio.fail_after(30), anyio.move_on_after(0.2) as scope:
            async with entered:
                pytest.fail("nobody is there")
        assert scope.cancelled_caught
        assert not entered.is_open

    run(backend, main)


def test_rights_of_one_store_go_before_those_of_the_object():
    """
    ``state(name, access=...)`` opts in for one store; the longest prefix wins; no prefix means no right.
    """
    port = MemoryStore()
    with Dapr(state_store="s", port=port) as dapr:
        carts = dapr.state("carts", port=port, access={"cart-": Access.ALL, "cart-old-": Access.READ})
        carts.create("cart-1", {"n": 1})
        carts.delete("cart-1")
        with pytest.raises(AccessDeniedError):
            carts.create("cart-old-1", {"n": 1})
        with pytest.raises(AccessDeniedError, match="READ"):
            carts.get("other")
        with pytest.raises(AccessDeniedError):
            dapr.states.create("cart-2", {"n": 1})


@pytest.mark.parametrize("rule", ["READ", 1, {"cart-": "all"}, {1: Access.ALL}, [Access.READ]])
def test_rights_that_are_none_are_refused_at_once(rule):
    """
    A misspelt right is told where it is given, not at the first call that would need it.
    """
    with pytest.raises(TypeError, match="access="):
        StateStore("s", access=rule)
    with pytest.raises(TypeError, match="access="):
        Dapr(state_store="s", access=rule)
    with Dapr(state_store="s", port=MemoryStore()) as dapr, pytest.raises(TypeError, match="access="):
        dapr.state("s", access=rule)


def test_deleting_by_update_needs_remove():
    """
    A change that returns DELETE needs the right to remove; nothing is written without it.
    """
    from toolkit import DELETE

    with Dapr(state_store="s", access=Access.READ | Access.WRITE, port=MemoryStore()) as dapr:
        dapr.states.create("k", {"n": 1})
        with pytest.raises(AccessDeniedError, match="REMOVE"):
            dapr.states.update("k", lambda _: DELETE)
        assert {"n": 1} == dapr.states.get("k")


def test_a_store_takes_the_settings_of_its_dapr():
    """
    ``StateStore(name, dapr=...)`` has the address, token, waiting time and rights of the Dapr unless it is given others.
    """
    dapr = Dapr(address="127.0.0.1:4711", api_token="t0ken", startup_timeout=3.0)
    store = StateStore("s", dapr=dapr, port=MemoryStore())
    other = StateStore("s", dapr=dapr, access=Access.ALL, startup_timeout=1.0, port=MemoryStore())
    assert (Access.READ, 3.0, Access.ALL, 1.0) == (
        store.access,
        store.startup_timeout,
        other.access,
        other.startup_timeout,
    )
    assert ("127.0.0.1:4711", Token("t0ken")) == (store._address, store._api_token)
    with store, pytest.raises(AccessDeniedError):
        store.set("k", {})


def test_a_store_alone_may_do_all():
    """
    A StateStore opened by itself has every right and waits a minute.
    """
    store = StateStore("s", port=MemoryStore())
    assert (Access.ALL, 60.0) == (store.access, store.startup_timeout)


def test_the_same_handle_for_the_same_options():
    """
    A handler may ask for its store each time: same name and options, same store; a ``with`` block does not close it.
    """
    port = MemoryStore()
    with Dapr(state_store="s", port=port) as dapr:
        first = dapr.state("a", port=port, access={"x": Access.ALL, "": Access.READ})
        with first as entered:
            entered.create("x", {})
        assert first is dapr.state("a", access={"": Access.READ, "x": Access.ALL}, port=port)
        assert {} == first.get("x")
        assert first is not dapr.state("a", port=port)
        assert first is not dapr.state("b", access={"x": Access.ALL, "": Access.READ}, port=port)


def test_closing_closes_its_stores():
    """
    After the block, everything it gave out refuses calls.
    """
    port = MemoryStore()
    with Dapr(state_store="s", port=port) as dapr:
        states, late, unused = dapr.states, dapr.state("a", port=port), dapr.state("b", port=port)
        late.get("k")
    for call in (
        lambda: states.get("k"),
        lambda: late.get("k"),
        lambda: unused.get("k"),
        lambda: dapr.states,
    ):
        with pytest.raises(RuntimeError):
            call()
    dapr.close()


def test_misuse_is_named():
    """
    Not open, opened twice, no such store named, settings without a store, a wrong address: each says what to do.
    """
    dapr = Dapr(state_store="s", port=MemoryStore())
    with pytest.raises(RuntimeError, match="not open"):
        dapr.state("s")
    with dapr:
        with pytest.raises(RuntimeError, match="already open"):
            dapr.__enter__()
        with pytest.raises(RuntimeError, match="secret_store="):
            _ = dapr.secrets
        with pytest.raises(RuntimeError, match="config_store="):
            _ = dapr.configs
    with pytest.raises(TypeError, match="retry"):
        Dapr(retry=None)
    with pytest.raises(ValueError, match="no port"):
        Dapr(address="host:port")


@pytest.mark.parametrize("names", [{"state_store": "s"}, {"secret_store": "s"}, {"config_store": "s"}, {}])
def test_no_sidecar(names):
    """
    Without a sidecar entering ends after startup_timeout with the address and the last reason.
    """
    with pytest.raises(SidecarUnavailableError, match=r"127\.0\.0\.1:1 within 0\.2 s"):
        Dapr(address=NOBODY, startup_timeout=0.2, **names).__enter__()


@BACKENDS
@pytest.mark.parametrize("names", [{"state_store": "s"}, {"secret_store": "s"}])
def test_no_sidecar_async(names, backend):
    """
    The same error, not wrapped in a group, in the async colour.
    """

    async def call() -> None:
        with pytest.raises(SidecarUnavailableError):
            await AsyncDapr(address=NOBODY, startup_timeout=0.2, **names).__aenter__()

    run(backend, call)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_process_has_to_open_its_own():
    """
    Secrets after a fork are a RuntimeError.
    """
    dapr = Dapr(secret_store="s")
    dapr._link, dapr._open = dapr._make_link(), True
    dapr._link._channel, dapr._link._pid = object(), os.getpid() + 1
    with pytest.raises(RuntimeError, match="fork"):
        dapr.secrets.get("a")


def counted(value: dict[str, int]) -> dict[str, int]:
    return {"n": value["n"] + 1}


@BACKENDS
def test_the_async_colour(backend):
    """
    States, lazily opened stores, rights and closing in the async colour; many first calls at once open one store.
    """
    port = MemoryStore()
    later: list[AsyncStateStore] = []

    async def call() -> None:
        async with AsyncDapr(state_store="s", port=port) as dapr:
            with pytest.raises(AccessDeniedError):
                await dapr.states.set("k", {})
            other = dapr.state("o", port=port, access=Access.ALL)
            later.append(other)
            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(partial(other.update, "k", counted, default={"n": 0}))
            assert {"n": 20} == await dapr.states.get("k")
            async with other as entered:
                assert {"n": 20} == await entered.get("k")
            assert other is dapr.state("o", port=port, access=Access.ALL)
            with pytest.raises(RuntimeError, match="already open"):
                await dapr.__aenter__()
            assert {"n": 1} == await other.transact(put, "t")
        for refused in (other.get, dapr.state):
            with pytest.raises(RuntimeError):
                await refused("k")

    async def put(tx: Any, key: str) -> dict[str, int]:
        tx.create(key, {"n": 1})
        return {"n": 1}

    run(backend, call)


@BACKENDS
def test_an_error_of_the_block_comes_out_as_it_is(backend):
    """
    The task groups inside do not wrap what the block raises.
    """

    async def call() -> None:
        async def broken() -> None:
            async with AsyncDapr(state_store="s", port=MemoryStore()) as dapr:
                await dapr.state("o", port=MemoryStore()).get("k")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await broken()

    run(backend, call)


@BACKENDS
def test_cancelling_the_block_closes_everything(backend):
    """
    A cancelled block ends with its stores closed.
    """
    stores: list[AsyncStateStore] = []

    async def call() -> None:
        with anyio.move_on_after(0.1) as scope:
            async with AsyncDapr(state_store="s", port=MemoryStore()) as dapr:
                stores.append(dapr.states)
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        with pytest.raises(RuntimeError):
            await stores[0].get("k")

    run(backend, call)


def test_every_call_of_a_store_is_known_to_the_held_ones():
    """
    A public method that talks to the store opens a held store first; one that is new has to be listed.
    """
    not_calls = {"close", "typed", "finish_later", "commit_shielded", "key_turns"}
    public = {
        name for kind in (StateStore, AsyncStateStore) for name in vars(kind) if not name.startswith("_")
    }
    assert sorted(CALLS) == sorted(public - not_calls)


def test_a_block_that_never_opened_is_refused():
    """
    A store that was never entered says so whatever is called on it.
    """
    calls = {
        "get": ("k",),
        "get_many": (["k"],),
        "read": ("k",),
        "set": ("k", {}),
        "update": ("k", dict),
        "delete": ("k",),
        "snapshot": (["k"],),
        "transact": (print,),
        "outcome": ("op",),
        "void": ("op",),
    }
    for name, arguments in calls.items():
        with pytest.raises(RuntimeError, match="not open"):
            getattr(StateStore("s", port=MemoryStore()), name)(*arguments)

        async def call(name=name, arguments=arguments):
            await getattr(AsyncStateStore("s", port=MemoryStore()), name)(*arguments)

        with pytest.raises(RuntimeError, match="not open"):
            anyio.run(call)
