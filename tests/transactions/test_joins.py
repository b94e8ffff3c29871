"""
The decorator, and bodies that join the transaction of another.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from toolkit import AsyncStateStore, RetryPolicy, StateStore, transactional
from toolkit.errors import RecordedError
from toolkit.testing.memory import MemoryStore


class RefusedError(Exception):
    """The body's own."""


@transactional
def put(tx: Any, key: str, number: int) -> int:
    """A body that joins or stands alone."""
    tx.put(key, {"n": number})
    return number


@transactional
def put_and_fail(tx: Any, key: str) -> None:
    tx.guard("guarded")
    tx.on_commit(lambda: pytest.fail("this one was dropped"))
    tx.put(key, {"n": 1})
    raise RefusedError


def test_a_body_called_with_a_store_or_a_tx() -> None:
    """``put(store, …)`` runs it, ``put(tx, …)`` joins, and its own attributes stay those of the function."""
    assert (put.__name__, put.__doc__) == ("put", "A body that joins or stands alone.")

    @transactional
    def both(tx: Any) -> int:
        return put(tx, "a", 1) + put(tx, "b", 2)

    with StateStore("s", port=MemoryStore()) as store:
        assert put(store, "a", 7) == 7
        assert both(store) == 3
        assert dict(store.snapshot("ab")) == {"a": {"n": 1}, "b": {"n": 2}}
        with pytest.raises(TypeError, match="store or a tx"):
            put("neither", "a", 1)


def test_a_savepoint_drops_its_own_writes() -> None:
    """A joined body that raises takes back its writes, guards and callbacks, and nothing else."""

    def outer(tx: Any) -> None:
        tx.put("a", {"n": 1})
        with pytest.raises(RefusedError):
            put_and_fail(tx, "b")
        with pytest.raises(RefusedError):
            put_and_fail(tx, "a")

    port = MemoryStore()
    with StateStore("s", port=port) as store:
        store.transact(outer)
        assert dict(store.snapshot(["a", "b", "guarded"])) == {"a": {"n": 1}}
    assert port.world.get("guarded").missing


def test_an_async_savepoint() -> None:
    """The same in the other colour."""

    @transactional
    async def inner(tx: Any) -> None:
        tx.put("b", {"n": await tx.get("a")})
        raise RefusedError

    @transactional
    async def outer(tx: Any) -> None:
        tx.put("a", {"n": 1})
        with pytest.raises(RefusedError):
            await inner(tx)

    async def main() -> dict[str, Any]:
        async with AsyncStateStore("s", port=MemoryStore()) as store:
            await outer(store)
            return dict(await store.snapshot("ab"))

    assert asyncio.run(main()) == {"a": {"n": 1}}


def test_settings_that_cannot_be_joined() -> None:
    """Another isolation or op_id than the transaction's is a TypeError; its own are fine."""

    def outer(tx: Any, body: Any) -> None:
        body(tx, "a", 1)

    with StateStore("s", port=MemoryStore()) as store:
        with pytest.raises(TypeError, match="op_id"):
            store.transact(outer, put.options(op_id="x"), op_id="y")
        with pytest.raises(TypeError, match="read_committed"):
            store.transact(outer, put.options(isolation="read_committed"))
        store.transact(outer, put.options(op_id="y", isolation="serializable"), op_id="y")
        assert store.get("a") == {"n": 1}


def test_joining_another_store() -> None:
    """A body cannot reach into another store: that would be two transactions."""

    def outer(tx: Any, other: StateStore) -> None:
        put(other, "a", 1)

    with StateStore("s", port=MemoryStore()) as store, StateStore("t", port=MemoryStore()) as other:
        for refusal in (TypeError, RuntimeError):
            with pytest.raises(refusal, match="tx"):
                store.transact(outer, other)
        with pytest.raises(RuntimeError, match="tx"):
            store.transact(lambda tx: other.transact(put, "a", 1))
        assert other.get("a") is None


def test_options_for_one_call() -> None:
    """``options`` makes a body with other settings; the first stays as it was."""
    with StateStore("s", port=MemoryStore()) as store:
        named = put.options(op_id="op", retry=RetryPolicy(attempts=2))
        assert [named(store, "a", 1), named(store, "a", 2)] == [1, 1]
        assert put(store, "a", 3) == 3
    assert put.settings.op_id is None
    assert named.settings.op_id == "op"


def generator(tx: Any) -> Iterator[int]:
    yield 1


async def async_generator(tx: Any) -> AsyncIterator[int]:
    yield 1


def with_op_id(tx: Any, op_id: str) -> None: ...
def with_isolation(tx: Any, isolation: str) -> None: ...
def with_retry(tx: Any, retry: int) -> None: ...
def with_record_errors(tx: Any, *, record_errors: int) -> None: ...


@pytest.mark.parametrize(
    "body", [generator, async_generator, with_op_id, with_isolation, with_retry, with_record_errors, "text"]
)
def test_what_cannot_be_a_body(body: Any) -> None:
    """Generators, parameters that transact takes for its own, and what is no function: at decoration and at the call."""
    with pytest.raises(TypeError):
        transactional(body)
    with StateStore("s", port=MemoryStore()) as store, pytest.raises(TypeError):
        store.transact(body)


def test_a_body_of_the_wrong_colour() -> None:
    """A sync store takes no ``async def``, an async store no plain function; each says what to do."""

    async def wants_loop(tx: Any) -> None: ...

    def plain(tx: Any) -> None: ...

    with StateStore("s", port=MemoryStore()) as store, pytest.raises(TypeError, match="AsyncStateStore"):
        store.transact(wants_loop)

    async def main() -> None:
        async with AsyncStateStore("s", port=MemoryStore()) as store:
            with pytest.raises(TypeError, match="async def"):
                await store.transact(plain)  # type: ignore[arg-type]

    asyncio.run(main())


def test_an_async_body_joins_no_plain_one() -> None:
    """Nobody would await it: a TypeError instead of writes that silently never happen."""

    @transactional
    async def inner(tx: Any) -> None: ...

    def outer(tx: Any) -> None:
        inner(tx)

    with StateStore("s", port=MemoryStore()) as store, pytest.raises(TypeError, match="async"):
        store.transact(outer)


@pytest.mark.parametrize(
    "settings",
    [{"record_errors": ("name",)}, {"record_errors": 5}, {"retry": 3}, {"op_id": ""}, {"op_id": 5}],
)
def test_settings_that_cannot_be_meant(settings: dict[str, Any]) -> None:
    """A TypeError at once, not when the body happens to raise."""
    with pytest.raises(TypeError):
        put.options(**settings)
    with StateStore("s", port=MemoryStore()) as store, pytest.raises(TypeError):
        store.transact(put, "a", 1, **settings)


def test_one_class_of_recorded_errors() -> None:
    """It need not be in a tuple."""
    with StateStore("s", port=MemoryStore()) as store:
        for _ in range(2):
            with pytest.raises(RecordedError):
                store.transact(put_and_fail, "a", op_id="op", record_errors=RefusedError)  # type: ignore[arg-type]


def test_a_store_that_is_not_open() -> None:
    """A RuntimeError, as for every other call."""
    with pytest.raises(RuntimeError, match="with StateStore"):
        put(StateStore("s", port=MemoryStore()), "a", 1)


@pytest.mark.parametrize(
    "make", [lambda: put.options(isolation="none"), lambda: transactional(isolation="none")]
)
def test_an_unknown_isolation(make: Callable[[], Any]) -> None:
    """Named at once, with those there are."""
    with pytest.raises(ValueError, match="serializable"):
        make()


def test_errors_travel() -> None:
    """What a transaction raises can be pickled: it crosses processes."""
    from toolkit.errors import OutcomeUnknownError, RecordedError

    for error in (RecordedError("Name", "why"), OutcomeUnknownError("unknown", receipt="r", key="k")):
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - its own bytes
        assert (type(again), str(again)) == (type(error), str(error))
