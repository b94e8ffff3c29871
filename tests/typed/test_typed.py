"""
Typed stores: every kind of class, both colours, members that belong to somebody else, and values that do not fit.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import msgspec
import pydantic
import pytest

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
    NotFoundError,
    OperationIdReusedError,
    StateStore,
    UnencodableValueError,
    UnsafeStoreError,
)
from toolkit.testing import MemoryStore


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Street:
    name: str
    number: int = 1


@dataclasses.dataclass
class UserData:
    name: str
    age: int = 0
    born: dt.date | None = None
    colour: Colour = Colour.RED
    street: Street | None = None
    tags: dict[str, int] = dataclasses.field(default_factory=dict)


class StreetStruct(msgspec.Struct):
    name: str
    number: int = 1


class UserStruct(msgspec.Struct):
    name: str
    age: int = 0
    born: dt.date | None = None
    colour: Colour = Colour.RED
    street: StreetStruct | None = None
    tags: dict[str, int] = {}


class StreetModel(pydantic.BaseModel):
    name: str
    number: int = 1


class UserModel(pydantic.BaseModel):
    name: str
    age: int = 0
    born: dt.date | None = None
    colour: Colour = Colour.RED
    street: StreetModel | None = None
    tags: dict[str, int] = {}


KINDS: list[Any] = [UserData, UserStruct, UserModel]
STREETS = {UserData: Street, UserStruct: StreetStruct, UserModel: StreetModel}


@pytest.fixture
def store():
    with StateStore("s", port=MemoryStore(profile="sqlite")) as opened:
        yield opened


def renamed(user: Any) -> Any:
    user.name = "Grace"
    return user


def older(user: Any) -> Any:
    user.age += 1
    return user


@pytest.mark.parametrize("kind", KINDS)
def test_an_instance_comes_back_equal(store, kind):
    """
    What create stored, get, read and get_many give back as an equal instance.
    """
    users = store.typed(kind)
    ada = kind(
        name="Ada",
        age=36,
        born=dt.date(1815, 12, 10),
        colour=Colour.BLUE,
        street=STREETS[kind](name="Dorset"),
        tags={"x": 1},
    )
    users.create("u", ada)
    entry = users.read("u")
    assert [ada, ada, {"u": ada}] == [users.get("u"), entry.value, users.get_many(["u", "missing"])]
    assert (True, "u") == (entry.exists, entry.key)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_stored_is_plain_json(store, kind):
    """
    A reader without the class sees an ordinary object.
    """
    store.typed(kind).create("u", kind(name="Ada", born=dt.date(1815, 12, 10)))
    assert {
        "name": "Ada",
        "age": 0,
        "born": "1815-12-10",
        "colour": "red",
        "street": None,
        "tags": {},
    } == store.get("u")


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_key(store, kind):
    """
    A missing key is None or the default, an entry without a value, and NotFoundError for an update.
    """
    users = store.typed(kind)
    entry = users.read("u")
    assert (None, 7, None, ABSENT, False, {}) == (
        users.get("u"),
        users.get("u", 7),
        entry.value,
        entry.etag,
        entry.exists,
        users.get_many(["u"]),
    )
    with pytest.raises(NotFoundError):
        users.update("u", renamed)


LEGACY = {"name": "Ada", "age": 1, "legacy": [1, 2], "street": {"name": "Dorset", "zip": "W1"}}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", ["update", "set", "compare_and_set"])
def test_undeclared_members_are_carried_over(store, kind, verb):
    """
    Members that the class does not declare survive each of the three verbs, inside a nested object too.
    """
    store.create("u", LEGACY)
    users = store.typed(kind)
    entry = users.read("u")
    new = renamed(users.get("u"))
    if verb == "update":
        assert "Grace" == users.update("u", renamed).name
    elif verb == "set":
        users.set("u", new)
    else:
        users.compare_and_set("u", new, entry.etag)
    value = store.get("u")
    assert {"legacy": [1, 2], "name": "Grace"} == {name: value[name] for name in ("legacy", "name")}
    assert {"name": "Dorset", "zip": "W1", "number": 1} == value["street"]
    assert "Grace" == users.get("u").name


@pytest.mark.parametrize("kind", KINDS)
def test_a_declared_mapping_loses_what_is_taken_out(store, kind):
    """
    A name in a declared mapping is the class's own: deleting it deletes it.
    """
    users = store.typed(kind)
    users.create("u", kind(name="Ada", tags={"a": 1, "b": 2}))

    def without_a(user: Any) -> Any:
        del user.tags["a"]
        return user

    users.update("u", without_a)
    assert {"b": 2} == store.get("u")["tags"]


@pytest.mark.parametrize("kind", KINDS)
def test_set_over_something_else_keeps_what_it_leaves_free(store, kind):
    """
    A set overwrites a value that is no such instance; foreign members stay beside it.
    """
    store.create("u", {"name": 5, "other": True, "tags": {"lost": "text"}})
    store.typed(kind).set("u", kind(name="Ada"))
    value = store.get("u")
    assert ("Ada", True, {}) == (value["name"], value["other"], value["tags"])


def test_set_over_a_list_replaces_it(store):
    """
    There is nothing to carry over from a value that is no object.
    """
    store.create("u", [1, 2])
    store.typed(Street).set("u", Street("Dorset"))
    assert {"name": "Dorset", "number": 1} == store.get("u")


def test_set_creates(store):
    """
    A set of a missing key stores the instance alone.
    """
    store.typed(Street).set("u", Street("Dorset"))
    assert {"name": "Dorset", "number": 1} == store.get("u")


class Renamed(msgspec.Struct, rename="camel", omit_defaults=True):
    first_name: str
    is_admin: bool = False


def test_renamed_and_omitted_members_are_the_classes_own(store):
    """
    A member that is declared under another name, or left out at its default, is not taken for somebody else's.
    """
    store.create("u", {"firstName": "Ada", "isAdmin": True, "first_name": "strange"})
    users = store.typed(Renamed)

    def demoted(user: Renamed) -> Renamed:
        user.is_admin = False
        return user

    assert Renamed("Ada") == users.update("u", demoted)
    assert {"firstName": "Ada", "first_name": "strange"} == store.get("u")


class Aliased(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    first: str = pydantic.Field(alias="firstName")


def test_pydantic_aliases_and_extras(store):
    """
    A model that keeps extra members owns them: what it drops is dropped.
    """
    store.create("u", {"firstName": "Ada", "extra": 1, "more": 2})

    def trimmed(user: Aliased) -> Aliased:
        return Aliased(firstName="Grace", extra=user.model_extra["extra"])

    store.typed(Aliased).update("u", trimmed)
    assert {"firstName": "Grace", "extra": 1} == store.get("u")


@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_value_that_does_not_fit_names_key_and_field(store, kind):
    """
    Decoding failures are CorruptValueError with the key and the field, never the value; nothing is written.
    """
    store.create("u-1", {"name": "Ada", "street": {"name": "Dorset", "number": "topsecret"}})
    users = store.typed(kind)
    before = store.read("u-1")
    calls: list[Callable[[], Any]] = [
        lambda: users.get("u-1"),
        lambda: users.read("u-1"),
        lambda: users.get_many(["u-1"]),
        lambda: users.update("u-1", renamed),
    ]
    for call in calls:
        with pytest.raises(CorruptValueError, match=r"'u-1'.*'street.number'") as caught:
            call()
        assert "u-1" == caught.value.key
        shown = f"{caught.value!s} {caught.value!r}"
        assert "topsecret" not in shown
        assert caught.value.__suppress_context__
    assert before == store.read("u-1")


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_enum_value_is_not_quoted(store, kind):
    """
    The error of an enumeration does not quote what is stored.
    """
    store.create("u", {"name": "Ada", "colour": "topsecret"})
    with pytest.raises(CorruptValueError, match="'colour'") as caught:
        store.typed(kind).get("u")
    assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", ["create", "set", "compare_and_set", "update", "default"])
def test_an_instance_that_would_not_read_back_is_refused(store, kind, verb):
    """
    An instance whose fields hold something else is UnencodableValueError before anything is sent.
    """
    users = store.typed(kind)
    bad = kind(name="Ada")
    bad.age = "many"
    if verb != "create":
        store.create("u", {"name": "Ada"})
    before = store.read("u")
    calls: dict[str, Callable[[], Any]] = {
        "create": lambda: users.create("u", bad),
        "set": lambda: users.set("u", bad),
        "compare_and_set": lambda: users.compare_and_set("u", bad, before.etag),
        "update": lambda: users.update("u", lambda _: bad),
        "default": lambda: users.update("u", renamed, default=bad),
    }
    with pytest.raises(UnencodableValueError, match=r"'u'.*'age'") as caught:
        calls[verb]()
    assert isinstance(caught.value, TypeError)
    assert before == store.read("u")


def test_another_class_is_refused(store):
    """
    A dictionary or an instance of another class is not taken for one.
    """
    with pytest.raises(UnencodableValueError, match="a dict is no Street"):
        store.typed(Street).create("u", {"name": "Dorset"})


def test_a_member_that_is_not_json_is_refused(store):
    """
    A field that no conversion knows is named by its class.
    """

    @dataclasses.dataclass
    class Odd:
        what: Any

    with pytest.raises(UnencodableValueError, match="'u'"):
        store.typed(Odd).create("u", Odd(object()))


def test_what_no_class_is_refused(store):
    """
    A class that is none of the three kinds is a TypeError at once.
    """

    class Plain:
        pass

    with pytest.raises(TypeError, match=r"a dataclass, a msgspec\.Struct or a pydantic model"):
        store.typed(Plain)


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
