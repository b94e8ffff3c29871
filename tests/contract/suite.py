"""
The contract of a store: what every colour keeps on every store.

Subclasses give a ``place`` (what to test on, class-scoped) and inherit all tests; ``store`` is an open store in each
colour. Keys are fresh for every test, so that stores can be shared.
"""

from __future__ import annotations

import copy
import itertools
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest

from tests.contract.caller import COLOURS, Caller, Place
from toolkit import ABSENT, CLEAR, DELETE, UNCHANGED, Access, Outcome, RetryPolicy, StateStore
from toolkit.core.compose import body
from toolkit.core.model import ETag
from toolkit.core.stamp import MAX_IDS, Applied, Stamp
from toolkit.core.value import digest
from toolkit.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    ConflictError,
    CorruptValueError,
    InvalidKeyError,
    InvalidValueError,
    NotFoundError,
    OperationIdReusedError,
    OperationWindowError,
    UnencodableValueError,
    ValueTooLargeError,
)

ODD: dict[str, Any] = {
    "1e23": 1e23,
    "max": 1.7976931348623157e308,
    "-0.0": -0.0,
    "tiny": 5e-324,
    "sum": 0.1 + 0.2,
    "1e22": 1e22,
    "2^53+1": 2**53 + 1,
    "2^63": 2**63,
    "-2^63": -(2**63),
    "10^40": 10**40,
    "unicode": "é e\u0301 \U0001f600 \u2028 \uffff \"\\/\b\f\n\r\t",
    "empty": "",
    "nested": [[], {}, [[{"": [None, True, False]}]]],
    "é": {"Z": 1, "a": 2, "aa": 3, "b": 4},
}

SHORT = {"clock_skew": 0.05}


def inc(value: Any) -> Any:
    return {**value, "n": value["n"] + 1}


def other(value: Any) -> Any:
    return {**value, "n": value["n"] * 10}


def until(check: Callable[[], bool], seconds: float = 10.0) -> None:
    """Look again until it holds."""
    end = time.monotonic() + seconds
    pause = threading.Event()
    while not check():
        assert time.monotonic() < end, "it did not come to pass"
        pause.wait(0.02)


class Contract:
    @pytest.fixture(scope="class", params=COLOURS)
    @classmethod
    def store(cls, request: pytest.FixtureRequest, place: Place) -> Iterator[Caller]:
        with place.open(str(request.param), **SHORT) as store:
            yield store

    @pytest.fixture
    def key(self) -> str:
        return f"k-{uuid.uuid4().hex}"

    @pytest.fixture
    def rival(self, place: Place) -> Iterator[Caller]:
        """The same store as another process sees it."""
        with place.open(**SHORT) as store:
            yield store

    # -- reading ---------------------------------------------------------------------------------------------------

    def test_a_missing_key(self, store: Caller, key: str) -> None:
        """It reads as the default, has no version, and is left out of many."""
        entry = store.read(key)
        assert (store.get(key), store.get(key, 7), store.get(key, eventual=True)) == (None, 7, None)
        assert (entry.key, entry.value, entry.etag, entry.exists, bool(entry.etag)) == (key, None, ABSENT, False, False)
        assert store.get_many([key]) == {}

    def test_many_keys(self, store: Caller, key: str) -> None:
        """Those that exist, each once, in the order asked for."""
        store.set(f"{key}-b", {"n": 2})
        store.set(f"{key}-a", [1])
        asked = [f"{key}-b", f"{key}-none", f"{key}-a", f"{key}-b"]
        assert list(store.get_many(asked).items()) == [(f"{key}-b", {"n": 2}), (f"{key}-a", [1])]
        assert store.get_many([]) == {}

    def test_a_value_read_is_a_copy(self, store: Caller, key: str) -> None:
        """What a caller does to it reaches nobody."""
        store.set(key, {"tags": ["a"]})
        store.get(key)["tags"].append("b")
        store.read(key).value["tags"].append("c")
        assert store.get(key) == {"tags": ["a"]}

    # -- create, set, delete ---------------------------------------------------------------------------------------

    def test_create(self, store: Caller, rival: Caller, key: str) -> None:
        """Once; then it is there for everybody."""
        assert store.create(key, {"name": "Ada"}) is None
        for one in (store, rival):
            with pytest.raises(AlreadyExistsError, match=key) as caught:
                one.create(key, {"name": "Bob"})
            assert isinstance(caught.value, ConflictError)
        assert rival.get(key) == {"name": "Ada"}

    def test_one_of_several_creators_wins(self, place: Place, key: str) -> None:
        """Six processes at once, eight rounds: exactly one success each time, and its value stays."""
        barrier = threading.Barrier(6)

        def creator(number: int) -> list[bool]:
            won = []
            with place.open(**SHORT) as store:
                for round_ in range(8):
                    barrier.wait(30)
                    try:
                        store.create(f"{key}-{round_}", {"by": number})
                        won.append(True)
                    except AlreadyExistsError:
                        won.append(False)
            return won

        with ThreadPoolExecutor(6) as pool:
            winners = list(zip(*pool.map(creator, range(6)), strict=True))
        assert [sum(round_) for round_ in winners] == [1] * 8
        with place.open() as store:
            assert [store.get(f"{key}-{number}")["by"] for number in range(8)] == [
                round_.index(True) for round_ in winners
            ]

    @pytest.mark.parametrize("value", [{}, {"a": 1}, [], [1, {"b": None}], 0, 1.5, "text", "", True, False])
    def test_any_json_value(self, store: Caller, key: str, value: Any) -> None:
        """Objects, lists and scalars come back as they were set; set overwrites any of them."""
        store.set(key, {"was": "here"})
        store.set(key, value)
        assert (store.get(key), type(store.get(key))) == (value, type(value))
        store.set(key, {"after": value})
        assert store.get(key) == {"after": value}

    def test_delete(self, store: Caller, rival: Caller, key: str) -> None:
        """Gone for everybody, deleting again is fine, and the key can be created anew."""
        store.set(key, {"n": 1})
        assert (store.delete(key), store.delete(key), rival.get(key)) == (None, None, None)
        assert rival.read(key).etag is ABSENT
        rival.create(key, {"n": 2})
        assert store.get(key) == {"n": 2}

    def test_delete_of_nothing(self, store: Caller, place: Place, key: str) -> None:
        """Deleting what never was writes nothing."""
        store.delete(key)
        assert place.raw(key).missing

    # -- update ----------------------------------------------------------------------------------------------------

    def test_update(self, store: Caller, key: str) -> None:
        """It returns the value after the change."""
        store.set(key, {"n": 1, "kept": [1]})
        assert store.update(key, inc) == store.get(key) == {"n": 2, "kept": [1]}

    def test_update_of_a_missing_key(self, store: Caller, key: str) -> None:
        """NotFoundError, a KeyError too, unless there is a default; the default is copied for every run."""
        with pytest.raises(NotFoundError, match="default=") as caught:
            store.update(key, inc)
        assert isinstance(caught.value, KeyError)
        default: dict[str, Any] = {"seen": []}

        def mutate(value: Any) -> Any:
            value["seen"].append(1)
            return value

        assert store.update(key, mutate, default=default) == {"seen": [1]}
        assert (default, store.get(key)) == ({"seen": []}, {"seen": [1]})
        assert store.update(f"{key}-none", lambda value: [value], default=None) == [None]

    def test_unchanged_and_delete(self, store: Caller, place: Place, key: str) -> None:
        """UNCHANGED writes nothing and tells the value; DELETE removes it."""
        store.set(key, {"n": 1})
        before = place.raw(key)
        assert (store.update(key, lambda _: UNCHANGED), place.raw(key)) == ({"n": 1}, before)
        assert (store.update(key, lambda _: DELETE), store.get(key)) == (None, None)

    def test_a_forgotten_return_erases_nothing(self, store: Caller, place: Place, key: str) -> None:
        """None from a change, or as a value, is a TypeError that names the two words for what may be meant."""
        store.set(key, {"n": 1})
        before = place.raw(key)
        for call in (
            lambda: store.update(key, lambda value: None),
            lambda: store.set(key, None),
            lambda: store.create(f"{key}-new", None),
            lambda: store.compare_and_set(key, None, ABSENT),
        ):
            with pytest.raises(TypeError, match=r"UNCHANGED.*DELETE"):
                call()
        assert (place.raw(key), store.get(f"{key}-new")) == (before, None)

    def test_markers_are_no_values(self, store: Caller, key: str) -> None:
        """A word that stands for something else is not stored."""
        for marker in (UNCHANGED, DELETE, ABSENT, CLEAR):
            with pytest.raises(TypeError, match="is not a value"):
                store.set(key, marker)
        assert store.get(key) is None

    def test_an_exception_writes_nothing(self, store: Caller, place: Place, key: str) -> None:
        """The very exception of the change comes out, and the bytes stay."""
        store.set(key, {"n": 1})
        before = place.raw(key)

        def broken(value: Any) -> Any:
            value["n"] = 99
            raise LookupError("planted")

        with pytest.raises(LookupError, match="planted"):
            store.update(key, broken)
        assert place.raw(key) == before

    def test_a_change_is_a_plain_function(self, store: Caller, key: str) -> None:
        """Coroutine functions, generators and what cannot be called are TypeErrors in both colours."""

        async def later(value: Any) -> Any:
            return value

        def generator(value: Any) -> Any:
            yield value

        store.set(key, {"n": 1})
        for change in (later, generator, lambda value: later(value), 5, None):
            with pytest.raises(TypeError):
                store.update(key, change)
        assert store.get(key) == {"n": 1}

    def test_no_store_call_inside_a_change(self, store: Caller, rival: Caller, key: str) -> None:
        """Any store, any call: a RuntimeError that says why; afterwards the store works as before."""
        store.set(key, {"n": 1})
        synchronous = StateStore.get.__get__(rival.store)

        def nosy(value: Any) -> Any:
            synchronous(key)
            return value

        with pytest.raises(RuntimeError, match="inside a change function"):
            store.update(key, nosy)
        assert store.update(key, inc) == {"n": 2}

    def test_what_a_change_keeps_is_its_own(self, store: Caller, key: str) -> None:
        """Mutating the returned object afterwards changes neither the store nor the next caller's value."""
        store.set(key, {"list": [1]})
        result = store.update(key, lambda value: {"list": [*value["list"], 2]})
        result["list"].append(99)
        assert store.update(key, lambda value: value) == {"list": [1, 2]}

    # -- versions --------------------------------------------------------------------------------------------------

    def test_compare_and_set(self, store: Caller, rival: Caller, key: str) -> None:
        """It holds against the version read; the loser hears of it and changes nothing."""
        store.set(key, {"n": 1})
        entry = store.read(key)
        rival.compare_and_set(key, {"n": 2}, ETag.parse(str(entry.etag)))
        with pytest.raises(ConflictError, match=key):
            store.compare_and_set(key, {"n": 3}, entry.etag)
        with pytest.raises(ConflictError):
            store.delete(key, etag=entry.etag)
        assert store.get(key) == {"n": 2}
        store.delete(key, etag=store.read(key).etag)
        assert rival.get(key) is None

    def test_compare_and_set_on_absence(self, store: Caller, rival: Caller, key: str) -> None:
        """ABSENT creates, also where a value was deleted; then it is a conflict."""
        store.compare_and_set(key, {"n": 1}, ABSENT)
        with pytest.raises(AlreadyExistsError):
            rival.compare_and_set(key, {"n": 2}, ABSENT)
        store.delete(key)
        rival.compare_and_set(key, {"n": 3}, rival.read(key).etag)
        assert store.get(key) == {"n": 3}

    def test_what_protects_nothing_is_refused(self, store: Caller, key: str) -> None:
        """None, an empty text or any text as a version is a TypeError before anything is sent."""
        store.set(key, {"n": 1})
        for etag in (None, "", "text", 5, False):
            with pytest.raises(TypeError, match="etag"):
                store.compare_and_set(key, {"n": 2}, etag)
            with pytest.raises(TypeError, match="etag"):
                store.delete(key, etag=etag)
        assert store.get(key) == {"n": 1}

    def test_a_deleted_value_does_not_come_back(self, store: Caller, rival: Caller, key: str) -> None:
        """A version read before a delete, and before a new life with the very same value, is no longer good."""
        store.set(key, {"n": 1})
        old = store.read(key).etag
        rival.delete(key)
        with pytest.raises(ConflictError):
            store.compare_and_set(key, {"n": 2}, old)
        rival.create(key, {"n": 1})
        for call in (lambda: store.compare_and_set(key, {"n": 2}, old), lambda: store.delete(key, etag=old)):
            with pytest.raises(ConflictError):
                call()
        assert store.get(key) == {"n": 1}

    def test_rewrites_that_change_nothing_keep_the_version(self, store: Caller, rival: Caller, key: str) -> None:
        """100 of them: the entry read before is still good for compare-and-set."""
        store.set(key, {"n": 1, "x": 1.0})
        entry = store.read(key)
        for number in range(50):
            rival.set(key, {"x": 1, "n": 1})
            store.update(key, copy.deepcopy, op_id=f"op-{number}" if number % 10 == 0 else None)
        assert store.read(key).etag == entry.etag
        store.compare_and_set(key, {"n": 2}, entry.etag)
        assert rival.get(key) == {"n": 2}

    def test_the_version_of_a_plain_value(self, store: Caller, place: Place, key: str) -> None:
        """A value the toolkit never wrote has a version too, and it moves with the value."""
        place.put(key, b'{"n": 1}')
        old = store.read(key).etag
        place.put(key, b'{"n": 2}')
        with pytest.raises(ConflictError):
            store.compare_and_set(key, {"n": 9}, old)
        store.compare_and_set(key, {"n": 3}, store.read(key).etag)
        assert store.get(key) == {"n": 3}

    # -- operation ids ---------------------------------------------------------------------------------------------

    def test_an_operation_counts_once(self, store: Caller, rival: Caller, key: str) -> None:
        """A repeat here or in another process changes nothing and tells the value now."""
        store.set(key, {"n": 0})
        assert store.update(key, inc, op_id="m-1") == {"n": 1}
        assert store.update(key, inc, op_id="m-2") == {"n": 2}
        assert (store.update(key, inc, op_id="m-1"), rival.update(key, inc, op_id="m-1")) == ({"n": 2}, {"n": 2})
        assert (rival.outcome("m-1", key=key), rival.outcome("m-9", key=key)) == (
            Outcome.COMMITTED,
            Outcome.NOT_COMMITTED,
        )

    def test_each_verb_counts_once(self, store: Caller, rival: Caller, key: str) -> None:
        """create, set, compare_and_set and delete under an id: a repeat says done and leaves what came since."""
        store.create(key, {"n": 1}, op_id="c")
        rival.create(key, {"n": 1}, op_id="c")
        etag = store.read(key).etag
        store.compare_and_set(key, {"n": 2}, etag, op_id="x")
        rival.compare_and_set(key, {"n": 2}, etag, op_id="x")
        store.set(key, {"n": 3}, op_id="s")
        store.update(key, inc)
        rival.set(key, {"n": 3}, op_id="s")
        assert store.get(key) == {"n": 4}
        store.delete(key, op_id="d")
        store.create(key, {"n": 5})
        rival.delete(key, op_id="d")
        assert store.get(key) == {"n": 5}
        assert rival.outcome("c", key=key) is Outcome.COMMITTED

    def test_an_id_belongs_to_one_operation(self, store: Caller, rival: Caller, key: str) -> None:
        """Another verb or another function under it is an error, and writes nothing."""
        store.update(key, inc, default={"n": 0}, op_id="m-1")
        for call in (
            lambda: rival.update(key, other, op_id="m-1"),
            lambda: rival.set(key, {"n": 9}, op_id="m-1"),
            lambda: rival.delete(key, op_id="m-1"),
        ):
            with pytest.raises(OperationIdReusedError, match="m-1"):
                call()
        assert store.get(key) == {"n": 1}

    def test_a_full_window_is_refused_before_anything_is_sent(self, store: Caller, place: Place, key: str) -> None:
        """As many young ids as a value can carry: the next one is an error with the cure; without an id it goes on."""
        ops = tuple(Applied(number, int(time.time()), 0) for number in range(MAX_IDS))
        place.put(key, body(key, {"n": 0}, Stamp("v", "absent", digest({"n": 0}), ops=ops)))
        before = place.raw(key)
        with pytest.raises(OperationWindowError, match="op_window"):
            store.update(key, inc, op_id="m-1")
        assert place.raw(key) == before
        assert store.update(key, inc) == {"n": 1}

    @pytest.mark.parametrize("op_id", ["", 5, b"x"])
    def test_an_id_is_a_text(self, store: Caller, key: str, op_id: Any) -> None:
        """Anything else names nothing."""
        with pytest.raises(TypeError, match="op_id"):
            store.set(key, {}, op_id=op_id)

    def test_scalars_carry_no_ids(self, store: Caller, place: Place, key: str) -> None:
        """The error names the cure, and the cure works."""
        store.set(key, 5)
        with pytest.raises(InvalidValueError, match="envelope=True"):
            store.update(key, lambda value: value + 1, op_id="m-1")
        with pytest.raises(InvalidValueError, match="envelope=True"):
            store.set(key, 6, ttl=60)
        with place.open(envelope=True) as wrapped:
            for _ in range(2):
                assert wrapped.update(key, lambda value: value + 1, op_id="m-1") == 6
        assert (store.get(key), json.loads(place.raw(key).data)["value"]) == (6, 6)

    # -- expiry ----------------------------------------------------------------------------------------------------

    def test_a_value_expires(self, store: Caller, rival: Caller, key: str) -> None:
        """At its time it is gone for readers and can be created anew; what was read of it is no longer good."""
        store.set(key, {"n": 1}, ttl=0.3)
        entry = rival.read(key)
        assert entry.value == {"n": 1}
        until(lambda: rival.get(key) is None)
        with pytest.raises(NotFoundError):
            store.update(key, inc)
        with pytest.raises(ConflictError):
            rival.compare_and_set(key, {"n": 2}, entry.etag)
        rival.create(key, {"n": 7})
        assert store.get(key) == {"n": 7}

    def test_keep_and_clear(self, store: Caller, place: Place, key: str) -> None:
        """update keeps the expiry unless told otherwise; set clears it."""

        def expires() -> Any:
            return json.loads(place.raw(key).data)["_occ"].get("exp")

        store.set(key, {"n": 1}, ttl=500)
        first = expires()
        assert abs(first - time.time() - 500) < 5
        store.update(key, inc)
        assert expires() == first
        store.update(key, inc, ttl=1000)
        assert expires() > first + 400
        store.update(key, inc, ttl=CLEAR)
        assert expires() is None
        store.set(key, {"n": 1}, ttl=500)
        store.set(key, {"n": 1})
        assert expires() is None

    @pytest.mark.parametrize(("ttl", "error"), [(0, ValueError), (-1, ValueError), (True, TypeError), ("5", TypeError)])
    def test_a_ttl_that_means_nothing(self, store: Caller, key: str, ttl: Any, error: type[Exception]) -> None:
        """Refused before anything is sent."""
        with pytest.raises(error, match="ttl"):
            store.set(key, {}, ttl=ttl)
        assert store.get(key) is None

    def test_after_the_stores_own_ttl(self, store: Caller, place: Place, key: str) -> None:
        """A plain writer's value that the store itself has expired does not stand in the way of a create."""
        assert place.put(key, b'{"n": 1}', ttl=1).ok
        until(lambda: store.get(key) is None)
        store.create(key, {"n": 2})
        assert store.update(key, inc) == {"n": 3}

    # -- what others wrote -----------------------------------------------------------------------------------------

    def test_a_plain_value_is_adopted(self, store: Caller, place: Place, key: str) -> None:
        """A value from before the toolkit is read, updated and stamped; its members stay."""
        place.put(key, b'{"n": 1, "who": "plain"}')
        assert store.update(key, inc, op_id="m-1") == {"n": 2, "who": "plain"}
        assert store.update(key, inc, op_id="m-1") == {"n": 2, "who": "plain"}

    def test_plain_writes_are_kept(self, store: Caller, place: Place, key: str) -> None:
        """Dropping, keeping or echoing the stamp: the plain writer's members are what the next update sees."""
        store.set(key, {"n": 1})
        for number, change in enumerate(("drop", "keep", "echo"), 2):
            row = place.raw(key)
            stored = json.loads(row.data)
            stamp = {} if change == "drop" else {"_occ": stored["_occ"]}
            assert place.put(key, json.dumps({"n": number * 10, **stamp}).encode(), etag=row.etag).ok
            assert store.update(key, inc) == {"n": number * 10 + 1}

    def test_a_later_format_is_read_and_never_written(self, store: Caller, place: Place, key: str) -> None:
        """A newer toolkit's value: read, not taken for foreign, refused to be written, unharmed."""
        later = {"n": 1, "_occ": {"f": 2, "v": "next-1", "i": "absent", "h": "?", "new": {"a": [1]}}}
        place.put(key, json.dumps(later).encode())
        before = place.raw(key)
        assert (store.get(key), store.read(key).exists) == ({"n": 1}, True)
        for call in (
            lambda: store.update(key, inc),
            lambda: store.set(key, {}),
            lambda: store.delete(key),
            lambda: store.update(key, inc, op_id="m-1"),
            lambda: store.compare_and_set(key, {}, store.read(key).etag),
        ):
            with pytest.raises(InvalidValueError, match="format 2"):
                call()
        assert place.raw(key) == before

    @pytest.mark.parametrize("stamp", [5, "x", {"f": 1}, {"f": 0}, {"f": 1, "v": 1, "n": 1, "i": "a", "h": "b"}])
    def test_a_corrupt_stamp(self, store: Caller, place: Place, key: str, stamp: Any) -> None:
        """A typed error that names the key, and nothing changes."""
        place.put(key, json.dumps({"n": 1, "_occ": stamp}).encode())
        before = place.raw(key)
        for call in (
            lambda: store.get(key),
            lambda: store.read(key),
            lambda: store.get_many([key]),
            lambda: store.update(key, inc),
            lambda: store.set(key, {}),
            lambda: store.create(key, {}),
            lambda: store.delete(key),
        ):
            with pytest.raises(CorruptValueError, match=key):
                call()
        assert place.raw(key) == before

    def test_bytes_that_are_not_json(self, store: Caller, place: Place, key: str) -> None:
        """The same for rubbish, where the store takes rubbish at all."""
        if not place.put(key, b"{not json").ok or place.raw(key).data != b"{not json":
            pytest.skip(f"{place.name} does not keep bytes that are not JSON as they are")
        before = place.raw(key)
        for call in (lambda: store.get(key), lambda: store.update(key, inc), lambda: store.delete(key)):
            with pytest.raises(CorruptValueError, match="not JSON"):
                call()
        assert place.raw(key) == before

    # -- values and keys -------------------------------------------------------------------------------------------

    def test_the_digest_survives_the_store(self, store: Caller, rival: Caller, place: Place, key: str) -> None:
        """Odd values come back by value, and what the store made of the text is not taken for a plain write."""
        value = {"odd": ODD}
        store.set(key, value)
        entry = rival.read(key)
        assert entry.value == value
        assert not str(entry.etag).startswith('"@')
        assert rival.update(key, lambda found: found) == value
        assert store.read(key).etag == entry.etag
        for name, part in ODD.items():
            store.set(f"{key}-{name.encode().hex()}", {"x": part})
            single = rival.read(f"{key}-{name.encode().hex()}")
            assert (single.value, str(single.etag).startswith('"@')) == ({"x": part}, False), name

    @pytest.mark.parametrize("value", [{"a": float("nan")}, {"a": {1}}, {"a": b"x"}, {1: 2}, {"_occ": 1}, "\ud800"])
    def test_what_is_not_json_is_refused(self, store: Caller, key: str, value: Any) -> None:
        """Before anything is sent, with the place inside the value."""
        with pytest.raises(UnencodableValueError, match=key):
            store.set(key, value)
        with pytest.raises(UnencodableValueError, match=key):
            store.update(key, lambda _: value, default=None)
        assert store.get(key) is None

    def test_an_oversized_value(self, store: Caller, place: Place, key: str) -> None:
        """Refused before anything is sent, with the numbers; what was there stays."""
        store.set(key, {"n": 1})
        before = place.raw(key)
        with pytest.raises(ValueTooLargeError, match=r"\d+ bytes"):
            store.set(key, {"pad": "x" * (4 * 1024 * 1024)})
        assert place.raw(key) == before
        store.set(f"{key}-big", {"pad": "x" * 1_000_000})
        assert len(store.get(f"{key}-big")["pad"]) == 1_000_000

    @pytest.mark.parametrize(
        ("bad", "error"), [("", InvalidKeyError), ("a||b", InvalidKeyError), (5, TypeError), ("_occ-tx-1", InvalidKeyError)]
    )
    def test_a_bad_key(self, store: Caller, bad: Any, error: type[Exception]) -> None:
        """Refused before anything is sent, by every call that writes."""
        for call in (
            lambda: store.set(bad, {}),
            lambda: store.create(bad, {}),
            lambda: store.update(bad, inc),
            lambda: store.delete(bad),
        ):
            with pytest.raises(error):
                call()

    # -- life ------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("colour", COLOURS)
    def test_outside_its_block(self, place: Place, key: str, colour: str) -> None:
        """A call after the end is a RuntimeError that says how to open it; entering twice is one too."""
        with place.open(colour) as store:
            store.set(key, {"n": 1})
            enter = store.store.__enter__ if colour == "sync" else store.store.__aenter__
            with pytest.raises(RuntimeError, match="already open"):
                store.run(enter)
        call = store.store.get if colour == "sync" else lambda name: anyio.run(store.store.get, name)
        with pytest.raises(RuntimeError, match="is not open"):
            call(key)

    def test_threads_share_a_store(self, place: Place, key: str) -> None:
        """Eight threads on one store object: every increment counts once, and they share reads and writes."""
        with place.open(retry=RetryPolicy(deadline=30.0)) as store:
            store.create(key, {"n": 0})

            def work(_number: int) -> None:
                for _ in range(10):
                    store.update(key, inc)

            with ThreadPoolExecutor(8) as pool:
                list(pool.map(work, range(8)))
            assert store.get(key) == {"n": 80}

    @pytest.mark.parametrize("colour", ["asyncio", "trio"])
    def test_tasks_share_a_store(self, place: Place, key: str, colour: str) -> None:
        """Twenty tasks on one store object: every increment counts once."""
        with place.open(colour) as store:
            store.create(key, {"n": 0})

            async def work() -> None:
                async with anyio.create_task_group() as group:
                    for number in range(20):
                        group.start_soon(lambda op: store.store.update(key, inc, op_id=op), f"op-{number}")

            store.run(work)
            store.run(work)
            assert store.get(key) == {"n": 20}

    def test_two_stores_lose_nothing(self, store: Caller, rival: Caller, key: str) -> None:
        """Two store objects, each with four threads, on one key."""
        store.create(key, {"n": 0})
        callers = itertools.cycle((store, rival))

        def work(caller: Caller) -> None:
            for _ in range(5):
                caller.update(key, inc)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, [next(callers) for _ in range(8)]))
        assert store.get(key) == {"n": 40}

    def test_close_lets_calls_finish(self, place: Place, key: str) -> None:
        """Calls under way end with their answer; nothing is half done."""
        started = threading.Event()

        def slow(value: Any) -> Any:
            started.set()
            threading.Event().wait(0.2)
            return inc(value)

        with ThreadPoolExecutor(1) as pool:
            with place.open() as store:
                store.create(key, {"n": 0})
                pending = pool.submit(store.update, key, slow)
                assert started.wait(10)
            assert pending.result(10) == {"n": 1}
        with place.open() as store:
            assert store.get(key) == {"n": 1}

    def test_access(self, place: Place, key: str) -> None:
        """A handle does what it was opened for and no more; the error names the right that is missing."""
        with place.open() as store:
            store.set(key, {"n": 1})
        with place.open(access=Access.READ) as reader:
            assert reader.get(key) == {"n": 1}
            for call in (lambda: reader.set(key, {}), lambda: reader.update(key, inc), lambda: reader.delete(key)):
                with pytest.raises(AccessDeniedError, match="Access"):
                    call()
        with place.open(access={"k-": Access.READ | Access.WRITE, "": Access.READ}) as writer:
            assert writer.update(key, inc) == {"n": 2}
            for call in (lambda: writer.delete(key), lambda: writer.update(key, lambda _: DELETE)):
                with pytest.raises(AccessDeniedError, match="REMOVE"):
                    call()
            with pytest.raises(AccessDeniedError):
                writer.set(f"other-{key}", {})
            assert writer.get(key) == {"n": 2}

    @pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
    def test_after_a_fork(self, place: Place, key: str) -> None:
        """The child is told to open its own; the parent goes on."""
        with place.open() as store:
            store.set(key, {"n": 1})
            child = os.fork()
            if child == 0:
                try:
                    store.get(key)
                except RuntimeError as error:
                    os._exit(0 if "fork" in str(error) else 2)
                os._exit(1)
            _, status = os.waitpid(child, 0)
            assert (os.waitstatus_to_exitcode(status), store.get(key)) == (0, {"n": 1})

    @pytest.mark.parametrize("colour", ["asyncio", "trio"])
    def test_another_event_loop(self, place: Place, key: str, colour: str) -> None:
        """A store belongs to the loop that opened it."""
        with place.open(colour) as store:
            with pytest.raises(RuntimeError, match="another event loop"):
                anyio.run(store.store.get, key, backend=colour)
