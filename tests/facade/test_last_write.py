"""
``last_write=True``: stores without ETags, for get, set and delete, unprotected, with a warning; all else is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from toolkit import (
    ABSENT,
    Access,
    AccessDeniedError,
    AsyncStateStore,
    Dapr,
    ETag,
    InvalidKeyError,
    InvalidValueError,
    StateStore,
    StoreUnavailableError,
    TTLUnsupportedError,
    UnencodableValueError,
    UnsafeStoreError,
    ValueTooLargeError,
)
from toolkit.core.model import Reply
from toolkit.log import capture
from toolkit.testing import MemoryStore

PROFILES = pytest.mark.parametrize("profile", ["memcached", "cassandra", "gcp.firestore", "jetstream"])
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@PROFILES
def test_get_set_and_delete(profile):
    """
    A value comes back as it was set, is overwritten, and is gone once deleted; deleting a missing key is fine.
    """
    with StateStore("s", port=MemoryStore(profile=profile), last_write=True) as store:
        assert store.get("k") is None
        store.set("k", {"n": 1})
        assert {"n": 1} == store.get("k")
        store.set("k", [1, "two"])
        assert {"k": [1, "two"]} == store.get_many(["k", "missing"])
        store.delete("k")
        store.delete("k")
        assert "gone" == store.get("k", "gone")


@PROFILES
def test_nothing_of_ours_is_stored(profile):
    """
    What is stored is the value alone: a stamp would promise what nothing keeps.
    """
    port = MemoryStore(profile=profile)
    with StateStore("s", port=port, last_write=True) as store:
        store.set("k", {"n": 1})
    assert b'{"n":1}' == port.world.rows["k"].data


@PROFILES
def test_opening_warns(profile):
    """
    Opening is a warning event that names the store; opening without the flag is none.
    """
    with capture() as events, StateStore("carts", port=MemoryStore(profile=profile), last_write=True):
        pass
    assert [("occ.warning", "carts")] == [(event.name, event.fields["store"]) for event in events]
    assert "unprotected" in events[0].fields["message"]
    with capture() as events, StateStore("carts", port=MemoryStore(profile=profile)):
        pass
    assert [] == events


def refused(store: StateStore) -> dict[str, Callable[[], Any]]:
    etag = ETag("1")
    return {
        "create": lambda: store.create("k", {}),
        "update": lambda: store.update("k", lambda value: value, default={}),
        "compare_and_set": lambda: store.compare_and_set("k", {}, etag),
        "compare_and_set to create": lambda: store.compare_and_set("k", {}, ABSENT),
        "delete by version": lambda: store.delete("k", etag=etag),
        "set with an op_id": lambda: store.set("k", {}, op_id="x"),
        "delete with an op_id": lambda: store.delete("k", op_id="x"),
        "transact": lambda: store.transact(lambda tx: tx.put("k", {"n": 2})),
    }


REFUSED = sorted(refused(StateStore("s", port=MemoryStore())))


@PROFILES
@pytest.mark.parametrize("call", REFUSED)
def test_everything_else_is_refused(profile, call):
    """
    What would need an ETag is UnsafeStoreError before anything is sent.
    """
    port = MemoryStore(profile=profile)
    with StateStore("s", port=port, last_write=True) as store:
        store.set("k", {"n": 1})
        sent = port.calls["put"] + port.calls["multi"]
        with pytest.raises(UnsafeStoreError):
            refused(store)[call]()
        assert sent == port.calls["put"] + port.calls["multi"]
        assert {"n": 1} == store.get("k")


@PROFILES
@pytest.mark.parametrize("call", [*REFUSED, "set", "delete"])
def test_without_the_flag_every_write_is_refused(profile, call):
    """
    A store without ETags opened as usual can be read; each write names the flag.
    """
    port = MemoryStore(profile=profile)
    with StateStore("s", port=port, last_write=True) as writer:
        writer.set("k", {"n": 1})
    with StateStore("s", port=port) as store:
        calls = refused(store) | {"set": lambda: store.set("k", {}), "delete": lambda: store.delete("k")}
        with pytest.raises(UnsafeStoreError) as caught:
            calls[call]()
        assert caught.value.reasons
        assert {"n": 1} == store.get("k")


def test_values_and_keys_are_checked():
    """
    None, what is not JSON, a bad key and an expiry the store does not have are refused as everywhere.
    """
    with StateStore("s", port=MemoryStore(profile="memcached"), last_write=True) as store:
        with pytest.raises(TypeError, match="UNCHANGED"):
            store.set("k", None)
        with pytest.raises(UnencodableValueError):
            store.set("k", {"a": object()})
        with pytest.raises(InvalidKeyError):
            store.set("a b", {})
        with pytest.raises(InvalidKeyError):
            store.delete("")
    with (
        StateStore("s", port=MemoryStore(profile="gcp.firestore"), last_write=True) as store,
        pytest.raises(TTLUnsupportedError),
    ):
        store.set("k", {}, ttl=5)


def test_the_toolkits_own_keys_stay_its_own():
    """
    A record of transactions is no key of the caller's, here as everywhere.
    """
    with StateStore("s", port=MemoryStore(), last_write=True) as store:
        for call in (lambda: store.set("_occ-tx-1", {}), lambda: store.delete("_occ-op-1")):
            with pytest.raises(InvalidKeyError, match="_occ-"):
                call()


def test_a_plain_set_clears_the_ttl_everywhere():
    """
    Redis keeps the old expiry unless it is told otherwise.
    """
    now = [1000.0]
    port = MemoryStore(profile="redis", clock=lambda: now[0])
    with StateStore("s", port=port, last_write=True) as store:
        store.set("k", {"n": 1}, ttl=4.2)
        now[0] += 4.5
        assert {"n": 1} == store.get("k")
        store.set("k", {"n": 2})
        now[0] += 6
        assert {"n": 2} == store.get("k")


def test_a_ttl_is_the_stores_own():
    """
    An expiry is the store's: the value is gone when its time is over.
    """
    now = [1000.0]
    port = MemoryStore(profile="memcached", clock=lambda: now[0])
    with StateStore("s", port=port, last_write=True) as store:
        store.set("k", {"n": 1}, ttl=5)
        assert {"n": 1} == store.get("k")
        now[0] += 6
        assert store.get("k") is None


def test_rights_hold():
    """
    A right that was not given is refused here too.
    """
    port = MemoryStore(profile="memcached")
    with Dapr(state_store="s", last_write=True, port=port) as dapr:
        with pytest.raises(AccessDeniedError, match="WRITE"):
            dapr.states.set("k", {})
        with pytest.raises(AccessDeniedError, match="REMOVE"):
            dapr.states.delete("k")
        dapr.state("s", last_write=True, port=port, access=Access.ALL).set("k", {"n": 1})
        assert {"n": 1} == dapr.states.get("k")


@pytest.mark.parametrize(
    ("profile", "text", "error", "words"),
    [
        (
            "memcached",
            'unexpected response line from "set": "SERVER_ERROR object too large for cache"',
            ValueTooLargeError,
            "8 bytes are over",
        ),
        (
            "memcached",
            "malformed: key is too long or contains invalid characters",
            InvalidKeyError,
            "cannot hold it",
        ),
        ("jetstream", "nats: maximum payload exceeded", ValueTooLargeError, "8 bytes are over"),
        ("jetstream", "nats: invalid key", InvalidValueError, "refused the request"),
    ],
)
def test_a_refusal_is_no_lost_answer(profile, text, error, words):
    """
    What the store will never take is told as that, with the size where it is the size.
    """

    class Refusing(MemoryStore):
        def put(self, write: Any, *, timeout: float = 1.0) -> Reply:
            return Reply("INTERNAL", f"failed saving state in state store s: {text}")

    with (
        StateStore("s", port=Refusing(profile=profile), last_write=True) as store,
        pytest.raises(error, match=words),
    ):
        store.set("k", {"n": 12})


def test_a_lost_answer_is_told():
    """
    When the store does not confirm, the error says that the write may or may not have taken effect.
    """

    class Silent(MemoryStore):
        def put(self, write: Any, *, timeout: float = 1.0) -> Reply:
            super().put(write)
            return Reply("DEADLINE_EXCEEDED", "no answer")

    with (
        StateStore("s", port=Silent(profile="memcached"), last_write=True) as store,
        pytest.raises(StoreUnavailableError, match="may or may not"),
    ):
        store.set("k", {})


@BACKENDS
def test_the_async_colour(backend):
    """
    The same in the async colour.
    """

    async def call() -> None:
        with capture() as events:
            async with AsyncStateStore("s", port=MemoryStore(profile="memcached"), last_write=True) as store:
                await store.set("k", {"n": 1})
                assert {"n": 1} == await store.get("k")
                with pytest.raises(UnsafeStoreError):
                    await store.update("k", lambda value: value)
                with pytest.raises(UnsafeStoreError):
                    await store.set("k", {}, op_id="x")
                with pytest.raises(UnsafeStoreError):
                    await store.delete("k", op_id="x")
                await store.delete("k")
                assert await store.get("k") is None
        assert ["occ.warning"] == [event.name for event in events]

    anyio.run(call, backend=backend)


@pytest.fixture
def memcached():
    from toolkit.sidecar import ServerUnavailable
    from toolkit.testing.servers import MemcachedServer

    try:
        with MemcachedServer() as server:
            yield server
    except ServerUnavailable as error:
        pytest.skip(str(error))


def test_through_a_real_memcached(daprd, memcached):
    """
    Through a real daprd and memcached: a value without an ETag is there, and a protected write is refused.
    """
    sidecar = daprd(components=[memcached.component("cache")])
    with StateStore("cache", address=sidecar.grpc_endpoint, last_write=True) as store:
        store.set("k", {"n": 1})
        assert {"n": 1} == store.get("k")
        with pytest.raises(UnsafeStoreError):
            store.create("k2", {})
        store.delete("k")
        assert store.get("k") is None
    with StateStore("cache", address=sidecar.grpc_endpoint) as store, pytest.raises(UnsafeStoreError):
        store.set("k", {})
