"""
The contract, first part: reading, creating, updating, versions.
"""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.contract.caller import Caller, Place
from tests.contract.common import SHORT, inc
from toolkit import ABSENT, CLEAR, DELETE, UNCHANGED, StateStore
from toolkit.core.model import ETag
from toolkit.errors import (
    AlreadyExistsError,
    ConflictError,
    NotFoundError,
)


class Verbs:
    # -- reading ---------------------------------------------------------------------------------------------------

    def test_a_missing_key(self, store: Caller, key: str) -> None:
        """It reads as the default, has no version, and is left out of many."""
        entry = store.read(key)
        assert (store.get(key), store.get(key, 7), store.get(key, eventual=True)) == (None, 7, None)
        assert (entry.key, entry.value, entry.etag, entry.exists, bool(entry.etag)) == (
            key,
            None,
            ABSENT,
            False,
            False,
        )
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

        def hidden(value: Any) -> Any:
            return later(value)

        store.set(key, {"n": 1})
        for change in (later, generator, hidden, 5, None):
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

    def test_rewrites_that_change_nothing_keep_the_version(
        self, store: Caller, rival: Caller, key: str
    ) -> None:
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
