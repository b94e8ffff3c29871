"""
The contract, second part: operation ids, expiry, and what others wrote.
"""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.contract.caller import Caller, Place
from tests.contract.common import inc, other, until
from toolkit import CLEAR, Outcome
from toolkit.core.compose import body
from toolkit.core.stamp import MAX_IDS, Applied, Stamp
from toolkit.core.value import digest
from toolkit.errors import (
    ConflictError,
    CorruptValueError,
    InvalidValueError,
    NotFoundError,
    OperationIdReusedError,
    OperationWindowError,
)


class Stored:
    # -- operation ids ---------------------------------------------------------------------------------------------

    def test_an_operation_counts_once(self, store: Caller, rival: Caller, key: str) -> None:
        """A repeat here or in another process changes nothing and tells the value now."""
        store.set(key, {"n": 0})
        assert store.update(key, inc, op_id="m-1") == {"n": 1}
        assert store.update(key, inc, op_id="m-2") == {"n": 2}
        assert (store.update(key, inc, op_id="m-1"), rival.update(key, inc, op_id="m-1")) == (
            {"n": 2},
            {"n": 2},
        )
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

    def test_a_full_window_is_refused_before_anything_is_sent(
        self, store: Caller, place: Place, key: str
    ) -> None:
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
        for call in (
            lambda: store.set(key, {}, op_id=op_id),
            lambda: store.outcome(op_id, key=key),
            lambda: store.void(op_id),
        ):
            with pytest.raises(TypeError, match="op_id"):
                call()

    def test_an_id_can_be_encoded(self, store: Caller, key: str) -> None:
        """Half a surrogate pair is refused before anything is sent; any other text will do."""
        with pytest.raises(ValueError, match="surrogate"):
            store.set(key, {}, op_id="\ud800")
        for op_id in ("é", "\0", " ", "x" * 10_000):
            store.set(key, {"by": len(op_id)}, op_id=op_id)
            assert store.outcome(op_id, key=key) is Outcome.COMMITTED

    @pytest.mark.parametrize(
        ("receipt", "error"), [(None, TypeError), (b"occ1.", TypeError), ("occ1.", ValueError)]
    )
    def test_what_is_no_receipt(self, store: Caller, receipt: Any, error: type[Exception]) -> None:
        """The error says what to pass."""
        with pytest.raises(error, match=r"error\.receipt"):
            store.resolve(receipt)

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

    def test_the_same_scalar_again_gets_what_an_envelope_has_room_for(
        self, store: Caller, place: Place, key: str
    ) -> None:
        """An id or an expiry is kept even where the value is the one that stands there already."""

        def once(value: Any) -> Any:
            return value if value == [1] else [*value, "again"]

        store.set(key, [1])
        with place.open(envelope=True) as wrapped:
            assert wrapped.update(key, once, op_id="m-1") == [1]
            wrapped.update(key, lambda value: [*value, 2])
            assert wrapped.update(key, once, op_id="m-1") == [1, 2]
        store.set(f"{key}-ttl", [1])
        with place.open(envelope=True) as wrapped:
            wrapped.set(f"{key}-ttl", [1], ttl=500)
        assert json.loads(place.raw(f"{key}-ttl").data)["_occ"]["exp"] > time.time() + 400

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
        """An update keeps the expiry unless told otherwise; a set clears it."""

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

    @pytest.mark.parametrize(
        ("ttl", "error"), [(0, ValueError), (-1, ValueError), (True, TypeError), ("5", TypeError)]
    )
    def test_a_ttl_that_means_nothing(
        self, store: Caller, key: str, ttl: Any, error: type[Exception]
    ) -> None:
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

    @pytest.mark.parametrize(
        "stamp", [5, "x", {"f": 1}, {"f": 0}, {"f": 1, "v": 1, "n": 1, "i": "a", "h": "b"}]
    )
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
