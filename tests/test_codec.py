"""
A codec between callers' values and JSON: every verb and every read, in both colours, and what its failures become.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import anyio
import pytest

from toolkit import (
    ABSENT,
    DELETE,
    UNCHANGED,
    AsyncStateStore,
    CorruptValueError,
    Counter,
    Dapr,
    StateStore,
    UnencodableValueError,
)
from toolkit.testing import MemoryStore

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
PRICE = {"price": Decimal("9.90"), "since": NOON, "tags": ["a"]}
STORED = {"price": {"$decimal": "9.90"}, "since": {"$time": "2026-01-02T12:00:00+00:00"}, "tags": ["a"]}


class Tagged:
    """Decimals and times inside objects and lists, each in an object that tells its kind."""

    def encode(self, value: Any) -> Any:
        match value:
            case Decimal():
                return {"$decimal": str(value)}
            case datetime():
                return {"$time": value.isoformat()}
            case dict():
                return {name: self.encode(item) for name, item in value.items()}
            case list():
                return [self.encode(item) for item in value]
        return value

    def decode(self, stored: Any) -> Any:
        match stored:
            case {"$decimal": str(text)}:
                return Decimal(text)
            case {"$time": str(text)}:
                return datetime.fromisoformat(text)
            case dict():
                return {name: self.decode(item) for name, item in stored.items()}
            case list():
                return [self.decode(item) for item in stored]
        return stored


@pytest.fixture
def port() -> MemoryStore:
    return MemoryStore(profile="sqlite")


@pytest.fixture
def store(port: MemoryStore) -> Iterator[StateStore]:
    with StateStore("s", port=port, codec=Tagged()) as opened:
        yield opened


@pytest.fixture
def plain(port: MemoryStore) -> Iterator[StateStore]:
    with StateStore("s", port=port) as opened:
        yield opened


def dearer(value: dict[str, Any]) -> dict[str, Any]:
    value["price"] += Decimal("0.10")
    return value


def test_what_lies_in_the_store_is_json_with_the_stamp(store: StateStore, plain: StateStore) -> None:
    """
    Another program sees what ``encode`` gave, and the store's own reads give back what the caller wrote.
    """
    store.create("k", PRICE)
    entry = store.read("k")
    assert (PRICE, True) == (entry.value, entry.exists)
    assert PRICE == store.get("k")
    assert {"k": PRICE} == store.get_many(["k", "missing"])
    assert {"k": PRICE} == dict(store.snapshot(["k", "missing"]))
    assert plain.get("k") == STORED


def test_a_change_works_on_callers_values(store: StateStore, plain: StateStore) -> None:
    """
    It gets a decoded copy, and its caller is told the value after it in the same form.
    """
    store.set("k", PRICE)
    after = store.update("k", dearer)
    assert after["price"] == Decimal("10.00")
    assert store.get("k") == after
    assert plain.get("k")["price"] == {"$decimal": "10.00"}
    assert store.update("k", lambda _: UNCHANGED) == after
    assert store.update("k", lambda _: DELETE) is None
    assert store.get("k", "gone") == "gone"


def test_a_repeat_is_told_the_value_in_the_callers_form(store: StateStore) -> None:
    """
    So is a caller whose operation was done before.
    """
    first = store.update("k", dearer, default=PRICE, op_id="m-1")
    assert store.update("k", dearer, default=PRICE, op_id="m-1") == first
    assert PRICE["price"] == Decimal("9.90")


def test_a_missing_value_never_reaches_the_codec(store: StateStore) -> None:
    """
    Defaults of reads are handed back as they are; a change with ``default=None`` gets None.
    """
    seen: list[Any] = []
    marker = object()
    assert store.get("k", marker) is marker
    assert store.read("k").value is None

    def first(value: Any) -> Any:
        seen.append(value)
        return PRICE

    store.update("k", first, default=None)
    assert seen == [None]


def test_compare_and_set_and_envelopes(port: MemoryStore) -> None:
    """
    A codec may turn any value into a scalar; in an envelope it carries ids and versions too.
    """
    with StateStore("s", port=port, codec=Tagged(), envelope=True) as store:
        store.compare_and_set("k", [NOON], ABSENT, op_id="m-1")
        store.compare_and_set("k", [NOON, NOON], store.read("k").etag)
        assert store.get("k") == [NOON, NOON]


def test_transactions_speak_the_callers_language(store: StateStore, plain: StateStore) -> None:
    """
    What ``tx`` reads, its own writes included, is decoded; what it writes is encoded.
    """
    store.set("a", PRICE)

    def body(tx: Any) -> Any:
        price = tx.get("a")["price"]
        tx.put("b", {"price": price * 2})
        tx.create("c", {"at": NOON})
        assert tx.peek("a") == PRICE
        return str(tx.get_many(["b", "c"])["b"]["price"])

    assert store.transact(body) == "19.80"
    assert plain.get("b") == {"price": {"$decimal": "19.80"}}
    assert store.get("c") == {"at": NOON}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_async_colour_does_the_same(port: MemoryStore, backend: str) -> None:
    """
    Reads, updates and transactions, awaited.
    """

    async def body(tx: Any) -> None:
        tx.put("b", await tx.get("a"))

    async def main() -> None:
        async with AsyncStateStore("s", port=port, codec=Tagged()) as store:
            await store.set("a", PRICE)
            assert (await store.update("a", dearer))["price"] == Decimal("10.00")
            await store.transact(body)
            assert (
                await store.get("b") == (await store.read("a")).value == {**PRICE, "price": Decimal("10.00")}
            )
            assert await store.get_many(["b"]) == dict(await store.snapshot(["b"]))

    anyio.run(main, backend=backend)


@dataclass
class Item:
    name: str
    left: int = 0


class Shouting:
    """Upper case in the store, lower case outside."""

    def encode(self, value: Any) -> Any:
        return {name: item.upper() if isinstance(item, str) else item for name, item in value.items()}

    def decode(self, stored: Any) -> Any:
        return {name: item.lower() if isinstance(item, str) else item for name, item in stored.items()}


def test_typed_views_and_counters_pass_through_it(port: MemoryStore, plain: StateStore) -> None:
    """
    A typed view hands its objects to the codec as JSON, and members it does not declare stay.
    """
    with StateStore("s", port=port, codec=Shouting()) as store:
        items = store.typed(Item)
        items.create("k", Item("pen", 2))
        plain.update("k", lambda value: {**value, "colour": "RED"})
        assert items.update("k", lambda item: Item(item.name, item.left - 1)) == Item("pen", 1)
        assert plain.get("k") == {"name": "PEN", "left": 1, "colour": "RED"}
        counter = Counter(store, "hits", shards=2)
        counter.add(3)
        assert counter.value() == 3


def test_a_failing_codec_fails_its_caller_alone(store: StateStore, plain: StateStore) -> None:
    """
    The error names the key and has the codec's own error for its cause; nothing is written.
    """

    class Broken(Tagged):
        def encode(self, value: Any) -> Any:
            raise LookupError("secret")

        def decode(self, stored: Any) -> Any:
            raise LookupError("secret")

    store.set("k", PRICE)
    with StateStore("s", port=store._port, codec=Broken()) as broken:
        for call in (
            lambda: broken.set("k", 1),
            lambda: broken.transact(lambda tx: tx.put("k", {})),
        ):
            with pytest.raises(UnencodableValueError, match=r"'k'.*encode failed") as refused:
                call()
            assert isinstance(refused.value.__cause__, LookupError)
            assert "secret" not in str(refused.value)
        for call in (lambda: broken.get("k"), lambda: broken.update("k", lambda value: value)):
            with pytest.raises(CorruptValueError, match=r"'k'.*decode failed"):
                call()
    assert plain.get("k") == STORED


@pytest.mark.parametrize("answer", [None, object(), (1, 2), float("nan"), DELETE])
def test_what_a_codec_answers_is_checked(port: MemoryStore, answer: Any) -> None:
    """
    Only JSON is stored, whatever a codec makes of a value; tuples become lists as everywhere.
    """

    class Odd(Tagged):
        def encode(self, value: Any) -> Any:
            return answer

    with StateStore("s", port=port, codec=Odd()) as store:
        if answer == (1, 2):
            store.set("k", PRICE)
            assert store.get("k") == [1, 2]
            return
        with pytest.raises((TypeError, UnencodableValueError)):
            store.set("k", PRICE)
        with pytest.raises((TypeError, UnencodableValueError)):
            store.update("k", lambda value: value, default=PRICE)
        with pytest.raises((TypeError, UnencodableValueError)):
            store.transact(lambda tx: tx.put("k", PRICE))
        assert store.get("k") is None


@pytest.mark.parametrize("codec", [Tagged, str, 7, object()])
def test_what_is_no_codec_is_refused(codec: Any) -> None:
    """
    A class instead of an instance is the likely mistake.
    """
    with pytest.raises(TypeError, match="encode and decode"):
        StateStore("s", codec=codec)


def test_none_is_refused_before_the_codec(store: StateStore) -> None:
    """
    A forgotten ``return`` must not become data by way of a codec.
    """
    with pytest.raises(TypeError, match="UNCHANGED"):
        store.update("k", lambda value: value.clear(), default=PRICE)
    with pytest.raises(TypeError, match="None"):
        store.set("k", None)


def test_dapr_passes_it_on(port: MemoryStore) -> None:
    """
    It is a setting of the state store like any other.
    """
    from toolkit import Access

    with Dapr(state_store="s", access=Access.ALL, port=port, codec=Tagged()) as dapr:
        dapr.states.set("k", PRICE)
        assert dapr.states.get("k") == PRICE


def test_like_takes_every_setting_over(port: MemoryStore) -> None:
    """
    A store object made like another has its settings, in either colour, and is not open.
    """
    codec = Tagged()
    store = StateStore("s", port=port, codec=codec, envelope=True, op_window=5.0, startup_timeout=3.0)
    with store:
        for kind in (StateStore, AsyncStateStore):
            twin = kind.like(store)
            assert (twin.is_open, store.is_open) == (False, True)
            settings = {name: value for name, value in vars(store).items() if name[0] != "_"}
            assert settings == {name: vars(twin)[name] for name in settings}
        with StateStore.like(AsyncStateStore.like(store), startup_timeout=1.0) as third:
            assert third.startup_timeout == 1.0
            third.set("k", [NOON])
        assert store.get("k") == [NOON]
    assert not store.is_open
