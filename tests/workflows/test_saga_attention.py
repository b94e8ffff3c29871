"""
Sagas that need attention: what an operator says, and what can still land beside it.
"""

from __future__ import annotations

import pytest

from tests.workflows.engine import Context
from tests.workflows.sagas import ORDER, RefusedError, done, engine_on, fates, saga_of
from toolkit import StateStore
from toolkit.testing import MemoryStore
from workflows import EffectVoidedError, WorkflowKit, saga_record
from workflows._payload import event_payload
from workflows.effects import NonRetryableError


@pytest.fixture
def store():
    with StateStore("s", port=MemoryStore("sqlite")) as store:
        store.set("log", {"done": []})
        yield store


@pytest.fixture
def engine(runtime, activity, store):
    return engine_on(runtime, activity, store)


def test_behind_the_pivot_there_is_no_way_back(engine, store):
    """
    A later step that fails for good waits for an operator; retried after the repair it goes through.
    """
    engine.bad.add("thank")
    engine.events.extend([event_payload("what?"), event_payload("retry")])

    def mend(name, _value):
        if engine.called.count("thank") == 2:
            engine.bad.clear()

    engine.before = mend
    ctx = Context("w1")
    report = engine.run(ctx, saga_of([*ORDER, ("ship", None, True), ("thank", None, False)])(ctx))
    assert ["done"] * 4 == fates(report)
    assert "saga: needs-attention" in ctx.statuses[0]
    assert "a bug in thank" in ctx.statuses[0]
    assert "" == ctx.statuses[-1]


def test_an_operator_can_skip(engine, store):
    """
    An undo that cannot work is left out by name, and the rest is undone.
    """
    engine.bad.add("refund")
    engine.events.append(event_payload("skip"))
    ctx = Context("w1")
    report = engine.run(ctx, saga_of([*ORDER, ("refuse", None, False)])(ctx))
    assert ["undone", "skipped"] == fates(report)[:2]
    assert ["take x", "pay x", "give x"] == done(store)


def test_a_late_undo_does_not_land_beside_an_operator(engine, store):
    """
    An undo whose answer never came, reported as done by hand: had it committed the report says so, else it never will.
    """
    late = []

    def lose(name, value):
        if name == "refund":
            late.append(value)
            raise NonRetryableError("the answer is lost")
        if name == "give":
            engine.runtime.activities[name](engine.activity("w1"), value)
            raise NonRetryableError("the answer is lost")

    engine.before = lose
    engine.events.extend(event_payload(word) for word in ({"action": "done", "step": "take"}, "done", "skip"))
    ctx = Context("w1")
    report = engine.run(ctx, saga_of([*ORDER, ("refuse", None, False)])(ctx))
    assert ["undone", "settled", "refused"] == fates(report)
    assert [("pay", "done"), ("take", "skip")] == [
        (call["step"], call["action"]) for call in report["attention"]
    ]
    words = done(store)
    with pytest.raises(EffectVoidedError):
        engine.runtime.activities["refund"](engine.activity("w1"), late[0])
    assert words == done(store)
    noted = saga_record(store, "w1")["sagas"]["order"]["steps"]
    assert ["", "settled", ""] == [step["fate"] for step in noted]
    repair = engine.runtime.workflows["occ-saga-repair"]
    ctx = Context("w1-repair")
    engine.before = lambda *_: None
    (again,) = engine.run(ctx, repair(ctx, {**saga_record(store, "w1"), "workflow_id": "w1"}))
    assert ["undone", "settled", "refused"] == fates(again)
    assert words == done(store)


def test_a_recorded_error_can_be_tried_again(engine, runtime, store):
    """
    An undo, and a step behind the pivot, that refuse at first: tried again under a new operation, which takes effect once.
    """
    kit = WorkflowKit(runtime, store)
    moody = {"left": 0}

    def body(tx, word):
        if moody["left"]:
            raise RefusedError("not now")
        log = tx.get("log")
        tx.put("log", {"done": [*log["done"], f"moody {word}"]})
        return "done at last"

    kit.effect(name="moody", record_errors=(RefusedError,))(body)

    def wait(name, _value):
        if name == "void moody":
            moody["left"] -= 1

    engine.before = wait
    for steps in (
        [("take", "moody", False), ("refuse", None, False)],
        [("ship", None, True), ("moody", None, False)],
    ):
        moody["left"] = 2
        engine.events.extend([event_payload("retry")] * 2)
        ctx = Context(f"w{len(steps)}{steps[0][0]}")
        report = engine.run(ctx, saga_of(steps)(ctx))
        assert 2 == len(report["attention"])
    assert ["take x", "moody x", "ship x", "moody x"] == done(store)
    assert ["done", "done"] == fates(report)
