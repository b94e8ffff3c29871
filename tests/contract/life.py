"""
The contract, third part: values, keys, threads, tasks, and the life of a store.
"""

from __future__ import annotations

import itertools
import os
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest

from tests.contract.caller import COLOURS, Caller, Place
from tests.contract.common import ODD, inc
from toolkit import DELETE, Access, RetryPolicy
from toolkit.errors import (
    AccessDeniedError,
    InvalidKeyError,
    UnencodableValueError,
    ValueTooLargeError,
)


class Life:
    # -- values and keys -------------------------------------------------------------------------------------------

    def test_the_digest_survives_the_store(
        self, store: Caller, rival: Caller, place: Place, key: str
    ) -> None:
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

    @pytest.mark.parametrize(
        "value", [{"a": float("nan")}, {"a": {1}}, {"a": b"x"}, {1: 2}, {"_occ": 1}, "\ud800"]
    )
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
        ("bad", "error"),
        [
            ("", InvalidKeyError),
            ("a||b", InvalidKeyError),
            ("\ud800", InvalidKeyError),
            (5, TypeError),
            ("half \ud800", InvalidKeyError),
            ("_occ-tx-1", InvalidKeyError),
            ("_occ-sweep", InvalidKeyError),
        ],
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

    def test_a_long_key(self, store: Caller, key: str) -> None:
        """Stored, or refused by name before the deadline; never a write whose outcome is unknown."""
        long = f"{key}-{secrets.token_hex(1500)}"  # nothing that a store could compress
        try:
            store.create(long, {"n": 1})
        except InvalidKeyError:
            with pytest.raises(InvalidKeyError):
                store.set(long, {"n": 2})
        else:
            assert store.get(long) == {"n": 1}

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
            for call in (
                lambda: reader.set(key, {}),
                lambda: reader.update(key, inc),
                lambda: reader.delete(key),
            ):
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
        with place.open(colour) as store, pytest.raises(RuntimeError, match="another event loop"):
            anyio.run(store.store.get, key, backend=colour)
