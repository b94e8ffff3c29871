"""
Sagas on a store in memory: what is undone, in which order, and what a late duplicate can still do.
"""

from __future__ import annotations

import contextlib
import pickle

import pytest

from tests.workflows.engine import Context, StoppedError
from tests.workflows.sagas import ORDER, done, engine_on, fates, saga_of
from toolkit import NotFoundError, StateError, StateStore
from toolkit.testing import MemoryStore
from workflows import EffectVoidedError, Saga, SagaAbortedError, WorkflowKit, saga_record
from workflows.effects import NonRetryableError


@pytest.fixture
def store():
    with StateStore("s", port=MemoryStore("sqlite")) as store:
        store.set("log", {"done": []})
        yield store


@pytest.fixture
def engine(runtime, activity, store):
    return engine_on(runtime, activity, store)


def test_steps_are_done_in_order(engine, store):
    """
    Each once; the record in the store names them until the saga is complete.
    """
    ctx = Context("w1")
    report = engine.run(ctx, saga_of([*ORDER, ("ship", None, True)])(ctx))
    assert ("running", ["done"] * 3) == (report["state"], fates(report))
    assert ["take x", "pay x", "ship x"] == done(store)
    noted = saga_record(store, "w1")["sagas"]["order"]
    assert [("take", "give"), ("pay", "refund"), ("ship", None)] == [
        (step["effect"], step["undo"]) for step in noted["steps"]
    ]


def test_a_complete_saga_leaves_nothing(engine, store):
    """
    After ``complete`` there is no record, and no more step is taken.
    """
    ctx = Context("w1")
    report = engine.run(ctx, saga_of(ORDER, end=Saga.complete)(ctx))
    assert "completed" == report["state"]
    with pytest.raises(NotFoundError, match="no saga record"):
        saga_record(store, "w1")


def test_a_refused_step_undoes_those_before_it(engine, store):
    """
    Newest first; the refused step has nothing to undo, and the report says why.
    """
    ctx = Context("w1")
    report = engine.run(ctx, saga_of([*ORDER, ("refuse", "thank", False)])(ctx))
    assert ["take x", "pay x", "refund x", "give x"] == done(store)
    assert ("aborted", ["undone", "undone", "refused"]) == (report["state"], fates(report))
    assert "RefusedError: no x" in report["reason"]
    assert "aborted" == saga_record(store, "w1")["sagas"]["order"]["state"]


def test_a_step_without_an_undo_is_kept(engine, store):
    """
    What cannot be taken back stays, and the report says so.
    """
    ctx = Context("w1")
    report = engine.run(ctx, saga_of([("take", None, False), ("refuse", None, False)])(ctx))
    assert "kept" == fates(report)[0]
    assert ["take x"] == done(store)


def test_a_step_that_failed_after_its_commit_is_undone(engine, store):
    """
    The answer was lost for good: nobody knows, voiding tells, and the undo runs.
    """

    def lose(name, value):
        if name == "pay":
            engine.runtime.activities[name](engine.activity("w1"), value)
            raise NonRetryableError("the answer is lost")

    engine.before = lose
    ctx = Context("w1")
    report = engine.run(ctx, saga_of(ORDER)(ctx))
    assert ["undone", "undone"] == fates(report)
    assert ["take x", "pay x", "refund x", "give x"] == done(store)


def test_a_late_duplicate_of_an_undone_step_changes_nothing(engine, store):
    """
    Both of a step that had committed and of one that had not: afterwards the activity runs once more.
    """
    late = []

    def fail(name, value):
        if name in ("take", "pay"):
            late.append((name, value))
        if name == "pay":
            raise NonRetryableError("never got there")

    engine.before = fail
    ctx = Context("w1")
    report = engine.run(ctx, saga_of(ORDER)(ctx))
    assert ["undone", "voided"] == fates(report)
    before = done(store)
    taken = engine.runtime.activities["take"](engine.activity("w1"), late[0][1])
    assert ("take x", before) == (taken, done(store))
    with pytest.raises(EffectVoidedError):
        engine.runtime.activities["pay"](engine.activity("w1"), late[-1][1])
    assert before == done(store)


def test_a_pivot_whose_answer_is_lost_counts(engine, store):
    """
    It has committed: the saga goes on, with the pivot's own result.
    """

    def lose(name, value):
        if name == "ship" and engine.called.count("ship") == 1:
            engine.runtime.activities[name](engine.activity("w1"), value)
            raise NonRetryableError("the answer is lost")

    engine.before = lose
    ctx = Context("w1")
    report = engine.run(ctx, saga_of([*ORDER, ("ship", None, True), ("thank", None, False)])(ctx))
    assert ["done"] * 4 == fates(report)
    assert ["take x", "pay x", "ship x", "thank x"] == done(store)


def test_a_pivot_that_failed_undoes_all(engine, store):
    """
    As long as it has not committed there is a way back, and it can never commit afterwards.
    """
    engine.bad.add("ship")
    ctx = Context("w1")
    report = engine.run(ctx, saga_of([*ORDER, ("ship", None, True)])(ctx))
    assert ["undone", "undone", "voided"] == fates(report)


def test_abort_by_the_workflow_itself(engine, store):
    """
    For a reason of its own; behind the pivot that is refused.
    """

    def give_up(saga):
        yield from saga.abort("out of hours")

    ctx = Context("w1")
    report = engine.run(ctx, saga_of(ORDER, end=give_up)(ctx))
    assert ("out of hours", ["undone", "undone"]) == (report["reason"], fates(report))
    with pytest.raises(RuntimeError, match="pivot has committed"):
        engine.run(ctx, saga_of([("ship", None, True)], end=give_up)(Context("w2")))


@pytest.mark.parametrize("at", range(6))
def test_a_terminated_saga_is_undone_from_its_record(engine, store, at):
    """
    Wherever the workflow was terminated, the repair leaves nothing, and no late duplicate brings it back.
    """
    seen = []

    def stop(name, value):
        if len(engine.called) > at:
            raise StoppedError
        seen.append((name, value))

    engine.before = stop
    ctx = Context("w1")
    workflow = saga_of([*ORDER, ("thank", "give", False)])
    with pytest.raises(StoppedError):
        engine.run(ctx, workflow(ctx))
    engine.before = lambda *_: None
    repair = engine.runtime.workflows["occ-saga-repair"]
    if at == 0:
        with pytest.raises(NotFoundError):
            saga_record(store, "w1")
        return
    record = {**saga_record(store, "w1"), "workflow_id": "w1"}
    (report,) = engine.run(Context("w1-repair"), repair(Context("w1-repair"), record))
    assert "aborted" == report["state"]
    words = done(store)
    counts = {word: words.count(f"{word} x") for word in ("take", "pay", "refund", "give", "thank")}
    assert counts["pay"] == counts["refund"]
    assert counts["take"] + counts["thank"] == counts["give"]
    for name, value in seen:
        with contextlib.suppress(EffectVoidedError):
            engine.runtime.activities[name.removeprefix("void ")](engine.activity("w1"), value)
    assert words == done(store)


def test_a_repair_leaves_a_saga_behind_its_pivot_alone(engine, store):
    """
    There is no way back: it is reported as it is.
    """
    ctx = Context("w1")
    engine.run(ctx, saga_of([*ORDER, ("ship", None, True)])(ctx))
    record = {**saga_record(store, "w1"), "workflow_id": "w1"}
    ctx = Context("w1-repair")
    (report,) = engine.run(ctx, engine.runtime.workflows["occ-saga-repair"](ctx, record))
    assert "past-pivot" == report["state"]
    assert ["take x", "pay x", "ship x"] == done(store)


def test_a_step_is_voided_in_its_own_store(engine, runtime, store):
    """
    With two kits on one runtime: a step on the other one's store, whose answer is lost, is undone there.
    """
    with StateStore("other", port=MemoryStore("redis")) as other:
        kit = WorkflowKit(runtime, other)
        kit.effect(name="far")(lambda tx, word: tx.put("far", {"word": word}))
        kit.effect(name="near")(lambda tx, word: tx.delete("far"))
        kit.workflow(name="second")(lambda ctx: None)

        def lose(name, value):
            if name == "far":
                engine.runtime.activities[name](engine.activity("w1"), value)
                assert {"word": "x"} == other.get("far")
                raise NonRetryableError("the answer is lost")

        engine.before = lose
        ctx = Context("w1")
        report = engine.run(ctx, saga_of([("take", "give", False), ("far", "near", False)])(ctx))
        assert ["undone", "undone"] == fates(report)
        assert other.get("far") is None
        assert ["take x", "give x"] == done(store)


def test_an_undo_for_the_pivot_is_refused(engine):
    """
    It would never run; saying so at once beats a surprise.
    """
    for steps in ([("ship", "give", True)], [("ship", None, True), ("take", "give", False)]):
        ctx = Context("w1")
        with pytest.raises(TypeError, match="never undone"):
            engine.run(ctx, saga_of(steps)(ctx))


def test_the_error_travels():
    """
    Between processes, with its report.
    """
    error = SagaAbortedError("saga 'order' was undone: no", report={"state": "aborted"})
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (str(error), error.report) == (str(again), again.report)
    assert isinstance(again, StateError)
