"""
Typed stores: every kind of class, members that belong to somebody else, and values that do not fit.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable
from typing import Any

import msgspec
import pydantic
import pytest

from tests.typed.kinds import KINDS, LEGACY, STREETS, Colour, Street, renamed
from toolkit import (
    ABSENT,
    CorruptValueError,
    NotFoundError,
    UnencodableValueError,
)


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
    A class that is none of the three kinds is a TypeError at once, as is an instance of one.
    """

    class Plain:
        pass

    for what in (Plain, None, Street("Dorset")):
        with pytest.raises(TypeError, match=r"a dataclass, a msgspec\.Struct or a pydantic model"):
            store.typed(what)
