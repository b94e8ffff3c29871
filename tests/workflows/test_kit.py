"""
Effects on a memory store, delivered as the engine delivers them: late, twice, after a void.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

import workflows
from toolkit import OperationVoidedError, Outcome, RecordedError, StateStore
from toolkit.testing import MemoryStore
from workflows import EffectVoidedError, WorkflowKit
from workflows._beside import foreign_on_path
from workflows._payload import envelope


@dataclass
class Order:
    key: str
    amount: int


def add(tx, order: Order):
    value = tx.get(order.key, {"n": 0})
    tx.put(order.key, {"n": value["n"] + order.amount})
    return {"n": value["n"] + order.amount, "op": tx.op, "workflow_id": tx.workflow_id, "attempt": tx.attempt}


@pytest.fixture
def port():
    return MemoryStore()


@pytest.fixture
def kit(runtime, port):
    with WorkflowKit(runtime, "memory", port=port) as started:
        yield started


def test_redelivery_returns_the_first_result(kit, runtime, activity, port):
    """
    The second delivery of an op changes nothing and answers as the first did, whatever attempt it says it is.
    """
    kit.effect(name="add")(add)
    first = runtime.activities["add"](activity(), envelope("op-1", 1, Order("a", 5)))
    again = runtime.activities["add"](activity(), envelope("op-1", 2, Order("a", 5)))
    assert {"n": 5, "op": "op-1", "workflow_id": "w1", "attempt": 1} == first == again
    with StateStore("memory", port=port) as store:
        assert {"n": 5} == store.get("a")


def test_plain_call_is_known_by_its_execution(kit, runtime, activity):
    """
    Scheduled by ``ctx.call_activity`` an effect has the engine's id; two executions are two operations.
    """
    kit.effect(name="add")(add)
    run = runtime.activities["add"]
    order = {"key": "a", "amount": 1}
    found = [run(activity(task_execution_id=name), order)["n"] for name in ("x1", "x1", "x2")]
    assert [1, 1, 2] == found


def test_no_execution_id_is_refused(kit, runtime, activity):
    """
    Without an id that is safe to key on, nothing is run.
    """
    kit.effect(name="add")(add)
    with pytest.raises(RuntimeError, match="call_effect"):
        runtime.activities["add"](activity(task_execution_id=""), {"key": "a", "amount": 1})


async def deliver(run, *arguments):
    return await run(*arguments)


def test_async_effect_shares_the_store(kit, runtime, activity, port):
    """
    An ``async def`` effect works on a store of its own loop, with the same data.
    """
    import asyncio

    async def grow(tx, amount):
        value = await tx.get("a", {"n": 0})
        tx.put("a", {"n": value["n"] + amount})
        return value["n"] + amount

    kit.effect(name="grow")(grow)
    run = runtime.activities["grow"]
    assert inspect.iscoroutinefunction(run)
    found = [asyncio.run(deliver(run, activity(), envelope(op, 1, 2))) for op in ("o1", "o1", "o2")]
    assert [2, 2, 4] == found
    with StateStore("memory", port=port) as store:
        assert {"n": 4} == store.get("a")


def test_recorded_error_is_an_outcome(kit, runtime, activity):
    """
    An error of ``record_errors`` comes back on redelivery without the body being run.
    """
    runs = []

    def refuse(tx):
        runs.append(tx.op)
        raise KeyError("no such seat")

    kit.effect(name="refuse", record_errors=(KeyError,))(refuse)
    for _ in range(2):
        with pytest.raises(RecordedError, match="no such seat"):
            runtime.activities["refuse"](activity(), envelope("op-1", 1, None))
    assert ["op-1"] == runs


def test_voided_effect_never_lands(kit, runtime, activity, port):
    """
    A delivery after ``store.void`` changes nothing and says so; the engine's own retry is told to stop.
    """
    kit.effect(name="add")(add)
    with StateStore("memory", port=port) as store:
        assert Outcome.NOT_COMMITTED == store.void("op-1")
        with pytest.raises(EffectVoidedError) as caught:
            runtime.activities["add"](activity(), envelope("op-1", 1, Order("a", 5)))
        assert isinstance(caught.value, OperationVoidedError)
        with pytest.raises(Exception, match="EffectVoidedError") as stopped:
            runtime.activities["add"](activity(), envelope("op-1", 1, Order("a", 5), by_engine=True))
        assert "NonRetryableError" == type(stopped.value).__name__
        assert store.get("a") is None


def test_one_function_on_several_kits(kit, runtime, activity):
    """
    The SDK refuses a function a second time; a kit wraps it anew. On one kit a name is taken once.
    """
    effect = kit.effect(name="add")(add)
    other = WorkflowKit(type(runtime)(), "memory", port=MemoryStore())
    assert "add" == other.effect()(effect).name
    with pytest.raises(ValueError, match="registered on this kit already"):
        kit.effect(name="add")(add)


def test_tx_is_over_after_the_body(kit, runtime, activity):
    """
    A ``tx`` kept from a body is refused.
    """
    kept = []
    kit.effect(name="keep")(kept.append)
    runtime.activities["keep"](activity(), envelope("op-1", 1, None))
    with pytest.raises(RuntimeError, match="over"):
        kept[0].put("a", {})


def test_readiness_and_life(runtime):
    """
    Started it is ready; left it is shut down.
    """
    kit = WorkflowKit(runtime, "memory", port=MemoryStore())
    assert not kit.ready
    with kit:
        assert kit.ready
    assert ["start", "shutdown"] == runtime.calls


def test_names_resolve_and_foreign_package_is_found(tmp_path):
    """
    Each exported name is there; a package of the same name on the path is named, a copy of this one is not.
    """
    assert [] == [name for name in workflows.__all__ if not hasattr(workflows, name)]
    there = tmp_path / "workflows"
    there.mkdir()
    own = tmp_path / "own"
    (there / "__init__.py").write_text('"""\nSomething else.\n"""\n')
    assert there == foreign_on_path(own, [str(tmp_path)])
    (there / "__init__.py").write_text('"""\nThe workflows of dapr-occ.\n"""\n')
    assert foreign_on_path(own, [str(tmp_path)]) is None


def test_forms_of_a_registration(kit, runtime, activity):
    """
    Without arguments a decorator takes the name of the function; one class of errors needs no tuple.
    """

    @kit.effect
    def take(tx, seat):
        raise KeyError(seat)

    @kit.workflow
    def order(ctx):
        return ctx.instance_id

    @kit.effect(record_errors=KeyError)
    def refuse(tx, seat):
        raise KeyError(seat)

    assert ("take", "order", "refuse") == (take.name, order.name, refuse.name)
    assert {"order"} == {name for name in runtime.workflows if not name.startswith("occ-")}
    for name, kind in {"take": KeyError, "refuse": RecordedError}.items():
        with pytest.raises(kind, match="12a"):
            runtime.activities[name](activity(), envelope(name, 1, "12a"))


def test_objects_travel_as_json(kit, runtime, activity):
    """
    An input that the SDK made of a dataclass is one again, and a result that is one is recorded as JSON types.
    """

    @kit.effect
    def double(tx, order: Order) -> Order:
        assert isinstance(order, Order)
        return Order(order.key, order.amount * 2)

    sent = SimpleNamespace(key="a", amount=4)
    assert [{"key": "a", "amount": 8}] * 2 == [runtime.activities["double"](activity(), sent) for _ in "12"]
