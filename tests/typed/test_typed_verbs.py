"""
Typed stores: the verbs and their options, rights, both colours, and a real sidecar.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import msgspec
import pytest

from tests.typed.kinds import KINDS, LEGACY, Street, older, renamed
from toolkit import (
    ABSENT,
    DELETE,
    UNCHANGED,
    Access,
    AccessDeniedError,
    AlreadyExistsError,
    AsyncStateStore,
    ConflictError,
    CorruptValueError,
    OperationIdReusedError,
    StateStore,
    UnencodableValueError,
    UnsafeStoreError,
)
from toolkit.testing import MemoryStore


@pytest.mark.parametrize("kind", KINDS)
def test_update_knows_the_markers(store, kind):
    """
    UNCHANGED writes nothing, DELETE removes, None is refused as in the plain store.
    """
    users = store.typed(kind)
    users.create("u", kind(name="Ada"))
    before = store.read("u").etag
    assert kind(name="Ada") == users.update("u", lambda _: UNCHANGED)
    assert before == store.read("u").etag
    with pytest.raises(TypeError, match="UNCHANGED"):
        users.update("u", lambda _: None)
    for call in (users.set, users.create, lambda key, value: users.compare_and_set(key, value, before)):
        with pytest.raises(TypeError, match=r"UNCHANGED.*DELETE"):
            call("u", None)
    assert users.update("u", lambda _: DELETE) is None
    assert not users.read("u").exists


def test_update_with_a_default(store):
    """
    A default is an instance, fresh for every run, or None.
    """
    streets = store.typed(Street)
    start = Street("Dorset")

    def next_door(street: Street) -> Street:
        street.number += 1
        return street

    assert Street("Dorset", 2) == streets.update("a", next_door, default=start)
    assert Street("Dorset", 1) == start
    assert Street("new") == streets.update("b", lambda street: street or Street("new"), default=None)


def test_compare_and_set_on_a_stale_version(store):
    """
    A version that has moved on is a ConflictError, ABSENT on a present key AlreadyExistsError, None a TypeError.
    """
    streets = store.typed(Street)
    streets.create("u", Street("Dorset"))
    stale = streets.read("u").etag
    streets.set("u", Street("Baker"))
    with pytest.raises(ConflictError):
        streets.compare_and_set("u", Street("Fleet"), stale)
    with pytest.raises(AlreadyExistsError):
        streets.compare_and_set("u", Street("Fleet"), ABSENT)
    with pytest.raises(TypeError, match="ETag or ABSENT"):
        streets.compare_and_set("u", Street("Fleet"), None)
    assert Street("Baker") == streets.get("u")


def test_delete(store):
    """
    Delete passes the version on.
    """
    streets = store.typed(Street)
    streets.create("u", Street("Dorset"))
    stale = streets.read("u").etag
    streets.set("u", Street("Baker"))
    with pytest.raises(ConflictError):
        streets.delete("u", etag=stale)
    streets.delete("u")
    assert streets.get("u") is None


@pytest.mark.parametrize("verb", ["create", "update", "set", "compare_and_set"])
def test_a_repeat_of_an_op_id_changes_nothing(store, verb):
    """
    Every verb passes op_id on; a repeat by a second store object changes nothing.
    """
    streets = store.typed(Street)

    def next_door(street: Street) -> Street:
        street.number += 1
        return street

    if verb != "create":
        streets.create("u", Street("Dorset"))
    etag = streets.read("u").etag
    calls: dict[str, Callable[[], Any]] = {
        "create": lambda: streets.create("u", Street("Dorset"), op_id="op"),
        "update": lambda: streets.update("u", next_door, op_id="op"),
        "set": lambda: streets.set("u", Street("Dorset", 2), op_id="op"),
        "compare_and_set": lambda: streets.compare_and_set("u", Street("Dorset", 2), etag, op_id="op"),
    }
    calls[verb]()
    first = streets.read("u")
    calls[verb]()
    assert first == streets.read("u")
    with pytest.raises(OperationIdReusedError):
        streets.update("u", renamed, op_id="op")


def test_change_is_checked(store):
    """
    An async change is refused before anything is read.
    """

    async def change(street: Street) -> Street:
        return street

    with pytest.raises(TypeError, match="change is async"):
        store.typed(Street).update("u", change)


def test_a_store_call_inside_a_typed_change_is_refused(store):
    """
    The rule against I/O in a change holds through the wrapper.
    """
    streets = store.typed(Street)
    streets.create("u", Street("Dorset"))
    with pytest.raises(RuntimeError, match="change function"):
        streets.update("u", lambda street: streets.get("v") or street)


def test_rights_hold():
    """
    A typed view has the rights of its store.
    """
    with StateStore("s", port=MemoryStore(), access=Access.READ) as store:
        streets = store.typed(Street)
        assert streets.get("u") is None
        with pytest.raises(AccessDeniedError, match="key 'u'"):
            streets.set("u", Street("Dorset"))


def test_last_write_store():
    """
    On a store without ETags get, set and delete work and the rest is refused.
    """
    with StateStore("s", port=MemoryStore(profile="memcached"), last_write=True) as store:
        streets = store.typed(Street)
        streets.set("u", Street("Dorset"))
        assert Street("Dorset") == streets.get("u")
        with pytest.raises(UnsafeStoreError):
            streets.update("u", lambda street: street)
        streets.delete("u")
        assert streets.get("u") is None


class Move(msgspec.Struct, tag=True):
    by: int


class Stop(msgspec.Struct, tag=True):
    pass


def test_a_union_of_structs(store):
    """
    Whatever msgspec converts will do, a tagged union too.
    """
    steps = store.typed(Move | Stop)
    steps.create("u", Move(3))
    assert Move(3) == steps.get("u")


async def _async_round(kind: Any) -> None:
    async with AsyncStateStore("s", port=MemoryStore(profile="redis")) as store:
        users = store.typed(kind)
        await store.create("u", LEGACY)
        assert "Grace" == (await users.update("u", renamed)).name
        entry = await users.read("u")
        await users.compare_and_set("u", older(entry.value), entry.etag)
        await users.set("u", older(await users.get("u")))
        await users.create("v", kind(name="Ada"))
        value = await store.get("u")
        assert {"name": "Grace", "age": 3, "legacy": [1, 2]} == {
            name: value[name] for name in ("name", "age", "legacy")
        }
        assert ["u", "v"] == sorted(await users.get_many(["u", "v", "w"]))
        await users.delete("v")
        assert 5 == await users.get("v", 5)
        await store.create("w", {"name": 5})
        with pytest.raises(CorruptValueError, match="'w'"):
            await users.get("w")
        with pytest.raises(UnencodableValueError):
            await users.create("x", {"name": "Ada"})


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_async_colour(kind, backend):
    """
    The same in the async colour, on asyncio and trio.
    """
    call: Callable[[], Awaitable[None]] = partial(_async_round, kind)
    anyio.run(call, backend=backend)


@pytest.mark.parametrize("kind", KINDS)
def test_through_the_real_sidecar(live_named, kind):
    """
    Through a real daprd: a typed update carries over what an older program stored.
    """
    live = live_named("sqlite")
    key = f"typed-{kind.__name__}"
    with StateStore(live.name, address=live.address) as store:
        store.create(key, LEGACY)
        assert 2 == store.typed(kind).update(key, older).age
        assert {**LEGACY, "age": 2}["legacy"] == store.get(key)["legacy"]
        assert "W1" == store.get(key)["street"]["zip"]
