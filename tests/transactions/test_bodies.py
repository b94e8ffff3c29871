"""
What a body may do, and what callers hear of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest

from toolkit import Access, Outcome, RetryPolicy, StateStore
from toolkit.core.intents import effective, intent_of
from toolkit.core.model import Row, Write
from toolkit.core.seen import see
from toolkit.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    AttemptsExhaustedError,
    InvalidValueError,
    OperationIdReusedError,
    OperationVoidedError,
    RecordedError,
    ResultTooLargeError,
    UnencodableValueError,
)
from toolkit.testing.memory import MemoryStore

Play = Callable[..., None]


class RefusedError(Exception):
    """The body's own."""


async def move(tx: Any, src: str, dst: str, amount: int) -> int:
    one, other = await tx.get(src), await tx.get(dst)
    tx.put(src, {**one, "n": one["n"] - amount})
    tx.put(dst, {**other, "n": other["n"] + amount})
    return amount


async def two(store: Any) -> None:
    await store.set("a", {"n": 10})
    await store.set("b", {"n": 0})


async def total(store: Any) -> dict[str, int]:
    return {key: value["n"] for key, value in (await store.snapshot(["a", "b", "c"])).items()}


def test_both_change_or_neither(play: Play) -> None:
    """A transfer changes both keys; one that raises changes none, and its error comes as it is."""

    async def refuse(tx: Any) -> None:
        tx.put("a", {"n": 99})
        raise RefusedError

    async def scenario(store: Any) -> None:
        await two(store)
        assert await store.transact(move, "a", "b", 3) == 3
        with pytest.raises(RefusedError):
            await store.transact(refuse)
        assert await total(store) == {"a": 7, "b": 3}

    play(scenario)


def test_own_writes_are_seen_and_reads_are_copies(play: Play) -> None:
    """What the body does to what it read changes nothing; what it wrote it reads back."""

    async def body(tx: Any) -> list[Any]:
        seen = await tx.get("a")
        seen["n"] = 77
        again = await tx.get("a")
        value = {"n": 5}
        tx.put("b", value)
        value["n"] = 6
        tx.delete("c")
        return [again, await tx.get("b"), await tx.get("c", "gone"), await tx.get_many(["a", "b", "c"])]

    async def scenario(store: Any) -> None:
        await two(store)
        await store.set("c", {"n": 1})
        result = await store.transact(body)
        assert result == [{"n": 10}, {"n": 5}, "gone", {"a": {"n": 10}, "b": {"n": 5}}]
        assert await total(store) == {"a": 10, "b": 5}

    play(scenario)


def test_a_conflict_runs_the_body_again(play: Play, port: MemoryStore) -> None:
    """Another program's write between read and commit: the body runs again on the new value, and nothing is lost."""
    runs: list[int] = []

    def rival() -> None:
        with StateStore("s", port=port) as store:
            store.set("a", {"n": 100})

    async def outrun(tx: Any) -> None:
        one = await tx.get("a")
        if not runs:
            thread = Thread(target=rival)
            thread.start()
            thread.join()
        runs.append(one["n"])
        tx.put("a", {"n": one["n"] + 1})
        tx.put("b", {"n": (await tx.get("b"))["n"] + 1})

    async def scenario(store: Any) -> None:
        await two(store)
        await store.transact(outrun)
        assert await total(store) == {"a": 101, "b": 1}
        assert runs == [10, 100]

    play(scenario)


def test_create_put_delete(play: Play) -> None:
    """``tx.create`` refuses what is present; a key deleted and made again in one body is one write."""

    async def create(tx: Any, key: str) -> None:
        tx.create(key, {"n": 1})
        tx.put("b", {"n": 2})

    async def replace(tx: Any) -> None:
        tx.delete("a")
        tx.create("a", {"n": 4})

    async def scenario(store: Any) -> None:
        await two(store)
        with pytest.raises(AlreadyExistsError):
            await store.transact(create, "a")
        assert await total(store) == {"a": 10, "b": 0}
        await store.transact(create, "c")
        await store.transact(replace)
        assert await total(store) == {"a": 4, "b": 2, "c": 1}

    play(scenario)


def test_on_commit(play: Play) -> None:
    """Called once after the commit, not for a body that raised; its own error disturbs nobody."""
    heard: list[str] = []

    async def body(tx: Any, *, fails: bool) -> str:
        tx.put("a", {"n": 1})
        tx.on_commit(lambda: 1 / 0)
        tx.on_commit(lambda: heard.append("done"))
        if fails:
            raise RefusedError
        return "result"

    async def scenario(store: Any) -> None:
        with pytest.raises(RefusedError):
            await store.transact(body, fails=True)
        assert heard == []
        assert await store.transact(body, fails=False) == "result"
        assert heard == ["done"]

    play(scenario)


def test_a_body_without_a_write_writes_nothing(play: Play, port: MemoryStore) -> None:
    """It commits by reading again; the store sees no write at all."""

    async def look(tx: Any) -> int:
        return int((await tx.get("a"))["n"] + (await tx.get("b"))["n"])

    async def scenario(store: Any) -> None:
        await two(store)
        before = dict(port.calls)
        assert await store.transact(look) == 10
        assert port.calls["put"] == before["put"]
        assert port.calls["multi"] == before["multi"]

    play(scenario)


def test_op_id_repeats(play: Play) -> None:
    """A repeat returns the first result and runs nothing; another function with the id is told so."""
    runs: list[int] = []

    async def body(tx: Any, amount: int) -> dict[str, int]:
        runs.append(amount)
        tx.put("a", {"n": amount})
        tx.put("b", {"n": amount})
        return {"amount": amount}

    async def other(tx: Any) -> None:
        tx.put("a", {"n": 0})

    async def scenario(store: Any) -> None:
        assert await store.outcome("op-1") is Outcome.NOT_COMMITTED
        assert await store.transact(body, 5, op_id="op-1") == {"amount": 5}
        assert await store.transact(body, 6, op_id="op-1") == {"amount": 5}
        assert await store.outcome("op-1") is Outcome.COMMITTED
        with pytest.raises(OperationIdReusedError, match="op-1"):
            await store.transact(other, op_id="op-1")
        assert await total(store) == {"a": 5, "b": 5}
        assert runs == [5]

    play(scenario)


def test_op_id_without_a_write(play: Play) -> None:
    """A body that only reads is recorded too: the repeat returns what was true then."""

    async def look(tx: Any) -> int:
        return int((await tx.get("a"))["n"])

    async def scenario(store: Any) -> None:
        await two(store)
        assert await store.transact(look, op_id="look") == 10
        await store.set("a", {"n": 11})
        assert await store.transact(look, op_id="look") == 10

    play(scenario)


def test_record_errors(play: Play) -> None:
    """The error is the outcome: no write, and the same ``RecordedError`` for every repeat."""
    runs: list[int] = []

    async def body(tx: Any) -> None:
        runs.append(1)
        tx.put("a", {"n": 99})
        raise RefusedError("too poor")

    async def scenario(store: Any) -> None:
        await two(store)
        for _ in range(2):
            with pytest.raises(RecordedError) as caught:
                await store.transact(body, op_id="op", record_errors=(RefusedError,))
            assert (caught.value.type, caught.value.message) == ("RefusedError", "too poor")
        assert runs == [1]
        assert await total(store) == {"a": 10, "b": 0}
        with pytest.raises(TypeError, match="op_id"):
            await store.transact(body, record_errors=(RefusedError,))

    play(scenario)


def test_the_text_of_a_recorded_error(play: Play, port: MemoryStore) -> None:
    """What JSON cannot hold is spelled out, the first time as on a repeat; too long a text is refused like a result."""

    async def body(tx: Any, text: str) -> None:
        raise RefusedError(text)

    async def scenario(store: Any) -> None:
        for _ in range(2):
            with pytest.raises(RecordedError) as caught:
                await store.transact(body, "half \ud800", op_id="half", record_errors=(RefusedError,))
            assert caught.value.message == r"half \ud800"
        before = port.calls["put"], port.calls["multi"]
        with pytest.raises(ResultTooLargeError, match="text of the error"):
            await store.transact(body, "x" * 70_000, op_id="long", record_errors=(RefusedError,))
        assert (port.calls["put"], port.calls["multi"]) == before

    play(scenario)


@pytest.mark.parametrize("then", ["guard", "put", "nothing"])
def test_a_peek_counts_where_the_key_is_guarded_or_written(play: Play, port: MemoryStore, then: str) -> None:
    """A key that was peeked at and is guarded or written as well must be as it was seen; else a peek stands for nothing."""
    seen: list[int] = []

    def rival() -> None:
        with StateStore("s", port=port) as store:
            store.set("b", {"n": 7})

    async def body(tx: Any) -> None:
        seen.append((await tx.peek("b"))["n"])
        if len(seen) == 1:
            thread = Thread(target=rival)
            thread.start()
            thread.join()
        tx.put("a", {"n": seen[-1]})
        if then == "guard":
            tx.guard("b")
        if then == "put":
            tx.put("b", {"n": seen[-1] + 1})

    async def scenario(store: Any) -> None:
        await two(store)
        await store.transact(body)
        assert seen == ([0] if then == "nothing" else [0, 7])
        assert await total(store) == {"a": seen[-1], "b": 8 if then == "put" else 7}

    play(scenario)


def test_a_result_over_the_limit(play: Play, port: MemoryStore) -> None:
    """``ResultTooLargeError`` comes before anything is sent; a result that is no JSON is refused too."""

    async def large(tx: Any) -> str:
        tx.put("a", {"n": 1})
        return "x" * 70_000

    async def strange(tx: Any) -> object:
        tx.put("a", {"n": 1})
        return object()

    async def scenario(store: Any) -> None:
        before = port.calls["put"], port.calls["multi"]
        with pytest.raises(ResultTooLargeError):
            await store.transact(large, op_id="op")
        with pytest.raises(UnencodableValueError):
            await store.transact(strange, op_id="op")
        assert (port.calls["put"], port.calls["multi"]) == before
        assert await store.transact(large) == "x" * 70_000

    play(scenario)


def test_void(play: Play) -> None:
    """A voided id never commits; one that has committed says so; a second void changes nothing."""

    async def body(tx: Any) -> None:
        tx.put("a", {"n": 1})
        tx.put("b", {"n": 1})

    async def scenario(store: Any) -> None:
        await two(store)
        for _ in range(2):
            assert await store.void("op-1") is Outcome.NOT_COMMITTED
        with pytest.raises(OperationVoidedError, match="op-1"):
            await store.transact(body, op_id="op-1")
        await store.transact(body, op_id="op-2")
        assert await store.void("op-2") is Outcome.COMMITTED
        assert await total(store) == {"a": 1, "b": 1}

    play(scenario)


def test_values_a_transaction_refuses(play: Play) -> None:
    """None and what is no JSON are refused at ``put``; a bare scalar needs an envelope."""

    async def put(tx: Any, value: Any) -> None:
        tx.put("a", value)
        tx.put("b", {"n": 1})

    async def scenario(store: Any) -> None:
        with pytest.raises(TypeError, match="DELETE"):
            await store.transact(put, None)
        with pytest.raises(UnencodableValueError):
            await store.transact(put, {"x": object()})
        with pytest.raises(InvalidValueError, match="envelope=True"):
            await store.transact(put, 5)
        await store.set("a", 5)
        with pytest.raises(InvalidValueError, match="envelope=True"):
            await store.transact(put, {"n": 1})

    play(scenario)


def test_scalars_in_envelopes(play: Play) -> None:
    """With ``envelope=True`` lists and scalars take part, plain ones found in the store included."""

    async def body(tx: Any) -> Any:
        before = await tx.get("a")
        tx.put("a", before + 1)
        tx.put("b", [before])
        return before

    async def scenario(store: Any) -> None:
        await store.set("a", 5)
        assert await store.transact(body) == 5
        assert [await store.get("a"), await store.get("b")] == [6, [5]]

    play(scenario, envelope=True)


def test_a_write_outside_tx(play: Play) -> None:
    """A store write inside a body is a RuntimeError: it would happen once for every run."""

    async def scenario(store: Any) -> None:
        async def body(tx: Any) -> None:
            await store.set("a", {"n": 1})

        with pytest.raises(RuntimeError, match="tx"):
            await store.transact(body)
        assert await store.get("a") is None

    play(scenario)


def test_rights(play: Play) -> None:
    """A written key needs WRITE, a deleted one REMOVE, and so does a guard and a read key of a writing body."""
    rights = {"rw-": Access.READ | Access.WRITE, "all-": Access.ALL, "": Access.READ}

    async def put(tx: Any, key: str) -> None:
        tx.put(key, {"n": 1})

    async def remove(tx: Any, key: str) -> None:
        tx.delete(key)

    async def guard(tx: Any, key: str) -> None:
        tx.guard(key)

    async def copy(tx: Any, src: str, *, peeks: bool) -> None:
        value = await (tx.peek(src) if peeks else tx.get(src))
        tx.put("rw-a", {"n": value})

    async def look(tx: Any) -> Any:
        return await tx.get("settings")

    async def scenario(store: Any) -> None:
        for body, key in ((put, "settings"), (remove, "rw-a"), (guard, "settings")):
            with pytest.raises(AccessDeniedError):
                await store.transact(body, key)
        with pytest.raises(AccessDeniedError, match="peek"):
            await store.transact(copy, "settings", peeks=False)
        await store.transact(copy, "settings", peeks=True)
        await store.transact(put, "all-a")
        await store.transact(remove, "all-a")
        await store.transact(guard, "rw-b")
        assert await store.transact(look) is None
        assert await store.transact(look, op_id="op") is None
        assert await store.void("op") is Outcome.COMMITTED

    play(scenario, access=rights)


def test_a_reader_leaves_no_record(play: Play, port: MemoryStore) -> None:
    """A handle that may only read runs bodies that only read; under an operation id even those would write."""

    async def look(tx: Any) -> Any:
        return await tx.get("a")

    async def scenario(store: Any) -> None:
        assert await store.transact(look) is None
        with pytest.raises(AccessDeniedError, match="op_id"):
            await store.transact(look, op_id="op")
        with pytest.raises(AccessDeniedError):
            await store.void("op")
        assert (port.calls["put"], port.calls["multi"]) == (0, 0)

    play(scenario, access=Access.READ)


def test_attempts_run_out(play: Play, port: MemoryStore) -> None:
    """Losing every attempt is ``AttemptsExhaustedError`` with what it cost, and nothing was written."""

    async def scenario(store: Any) -> None:
        await two(store)

        async def body(tx: Any) -> None:
            one = await tx.get("a")
            row = port.get("a")
            port.put(_foreign(row, one["n"] + 1))
            tx.put("b", {"n": 99})

        with pytest.raises(AttemptsExhaustedError) as caught:
            await store.transact(body, retry=RetryPolicy(attempts=3))
        assert (caught.value.attempts, caught.value.conflicts) == (3, 3)
        assert await total(store) == {"a": 13, "b": 0}

    play(scenario)


def _foreign(row: Any, number: int) -> Write:
    """A plain writer's compare-and-set, which knows nothing of stamps."""
    return Write("a", json.dumps({"n": number}).encode(), etag=row.etag)


def test_an_error_from_a_mixture_is_not_believed(play: Play, port: MemoryStore) -> None:
    """A body that saw halves of another's write raises; it is run again and never heard."""
    runs: list[int] = []

    async def scenario(store: Any) -> None:
        await two(store)

        async def body(tx: Any) -> None:
            one = await tx.get("a")
            if not runs:
                port.put(_foreign(port.get("a"), 20))
            runs.append(one["n"])
            await tx.get("b")
            if one["n"] == 10:
                raise RefusedError
            tx.put("b", {"n": one["n"]})

        await store.transact(body)
        assert runs == [10, 20]
        assert await total(store) == {"a": 20, "b": 20}

    play(scenario)


def test_read_committed(play: Play, port: MemoryStore) -> None:
    """By name a key that was only read may change meanwhile, a written one not."""
    runs: list[int] = []

    async def scenario(store: Any) -> None:
        await two(store)

        async def body(tx: Any) -> None:
            one = await tx.get("a")
            runs.append(one["n"])
            if len(runs) == 1:
                port.put(_foreign(port.get("a"), 20))
            tx.put("b", {"n": one["n"]})

        await store.transact(body, isolation="read_committed")
        assert runs == [10]
        assert await total(store) == {"a": 20, "b": 10}
        with pytest.raises(ValueError, match="serializable"):
            await store.transact(body, isolation="snapshot")

    play(scenario)


def test_a_snapshot_is_immutable_and_skips_the_missing(play: Play) -> None:
    """It holds the keys that exist, and cannot be written."""

    async def scenario(store: Any) -> None:
        await two(store)
        snap = await store.snapshot(["a", "nobody"])
        assert dict(snap) == {"a": {"n": 10}}
        with pytest.raises(TypeError):
            snap["a"] = 1

    play(scenario)


def test_the_tx_is_over(play: Play) -> None:
    """Used after its body, it is a RuntimeError."""
    kept: list[Any] = []

    async def body(tx: Any) -> None:
        kept.append(tx)

    async def scenario(store: Any) -> None:
        await store.transact(body)
        with pytest.raises(RuntimeError, match="over"):
            kept[0].put("a", {"n": 1})

    play(scenario)


def test_expiry_of_what_is_put(play: Play, port: MemoryStore) -> None:
    """``ttl=`` of a put is the value's; without it an earlier expiry ends, whatever way it commits."""

    async def body(tx: Any) -> None:
        tx.put("a", {"n": 1}, ttl=1000)
        tx.put("b", {"n": 2})

    async def scenario(store: Any) -> None:
        await store.set("b", {"n": 0}, ttl=1000)
        await store.transact(body)
        kept: dict[str, bool] = {}
        for key in ("a", "b"):
            row = port.get(key)
            assert isinstance(row, Row)
            seen = see(key, row)
            intent = intent_of(seen)
            seen = effective(seen, intent, committed=True) if intent is not None else seen
            kept[key] = seen.expires is not None
        assert kept == {"a": True, "b": False}

    play(scenario)
