"""
Sagas on the test kit: many under faults, attempts that come a day late, outages without end, and their replay.
"""

from __future__ import annotations

import json
import random
from datetime import timedelta

import pytest

from toolkit import RetryPolicy
from toolkit.testing import NonDeterminismError, WorkflowSidecar
from workflows import Saga, SagaAbortedError, WorkflowKit, resume_saga, wait_event
from workflows.library import RESERVE_ORDER
from workflows.library.runner import run_plan

pytest_plugins = ["toolkit.testing.pytest_workflows"]

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def shop(seed, orders):
    """
    Orders for about twice the stock and the money there is.
    """
    chance = random.Random(seed)
    items, customers = [f"item-{n}" for n in range(6)], [f"customer-{n}" for n in range(8)]
    wanted = [
        {
            "id": f"o{number}",
            "customer": chance.choice(customers),
            "item": chance.choice(items),
            "count": chance.randint(1, 3),
            "price": chance.randint(1, 9),
        }
        for number in range(orders)
    ]
    stock = dict.fromkeys(items, orders // 6)
    return json.dumps({"stock": stock, "customers": dict.fromkeys(customers, orders // 2), "orders": wanted})


def test_orders_end_exact_under_faults(wf_sidecar, wf_faults, wf_serve, wf_store):
    """
    A fifth of the results lost, deliveries doubled an hour later, turns run again and workers that crash.
    """
    wf_faults.lose_result(p=0.2).duplicate("order-reserve", p=0.1, after=HOUR).duplicate(
        "order-charge", p=0.1
    )
    wf_faults.crash_after(p=0.01, times=4).rerun_turn(p=0.05)
    kit = WorkflowKit(wf_sidecar.runtime(), "test", port=wf_sidecar.state)
    RESERVE_ORDER.register(kit)
    wf_serve(kit)
    plan = RESERVE_ORDER.plan(shop(9, 60))
    report = run_plan(plan, wf_sidecar.client(), wf_store, timeout=100)
    assert report["ok"], report
    assert 0 < report["shipped"] < 60
    wf_sidecar.advance(DAY)
    held = [wf_store.get(f"stock/item-{number}")["reserved"] for number in range(6)]
    assert [{}] * 6 == held, "a late duplicate reserved something"


@pytest.fixture
def kit(wf_sidecar):
    """
    Effects that write down their name; not started yet.
    """
    kit = WorkflowKit(wf_sidecar.runtime(), "test", port=wf_sidecar.state)

    def effect(name):
        def body(tx, key):
            value = tx.get(key, {"done": []})
            tx.put(key, {"done": [*value["done"], name]})
            return name

        kit.effect(name=name, retry=RetryPolicy(attempts=2, initial=0.001))(body)

    for name in ("take", "give", "pay", "refund", "ship"):
        effect(name)
    return kit


def buying(ctx, key):
    """
    Two steps that can be undone, the second one with a limit of time, and the pivot.
    """
    saga = Saga(ctx, "buy")
    try:
        yield from saga.step("take", input=key, undo="give")
        yield from saga.step("pay", input=key, undo="refund", timeout=HOUR)
        yield from saga.step("ship", input=key, pivot=True)
    except SagaAbortedError as aborted:
        return [step["fate"] for step in aborted.report["steps"]]
    return "bought"


def test_a_step_that_comes_a_day_late_changes_nothing(kit, wf_sidecar, wf_faults, wf_serve, wf_store):
    """
    Its hour is over, the saga is undone, and the activity is delivered for the first time.
    """
    kit.workflow(name="buying")(buying)
    wf_faults.delay("pay", by=DAY, times=1)
    wf_serve(kit)
    assert ["undone", "voided"] == wf_sidecar.run("buying", input="k")
    before = wf_sidecar.deliveries["pay"]
    wf_sidecar.advance(2 * DAY)
    assert before + 1 == wf_sidecar.deliveries["pay"], "the late delivery did not come"
    assert {"done": ["take", "give"]} == wf_store.get("k")


def test_an_undo_outlasts_a_long_outage(kit, wf_sidecar, wf_faults, wf_serve, wf_store):
    """
    Forty conflicts are far beyond the attempts of a step: the undo goes on by durable timer until it is through.
    """

    def giving_up(ctx, key):
        saga = Saga(ctx, "give-up")
        try:
            yield from saga.step("take", input=key, undo="give")
            yield from wait_event(ctx, "go")
            yield from saga.abort("changed my mind")
        except SagaAbortedError as aborted:
            return [step["fate"] for step in aborted.report["steps"]]

    kit.workflow(name="giving-up")(giving_up)
    wf_serve(kit)
    client = wf_sidecar.client()
    started = client.schedule_new_workflow("giving-up", input="k")
    while wf_store.get("k") is None:
        client.wait_for_workflow_start(started, timeout_in_seconds=10)
    wf_faults.conflict("k", times=40)
    client.raise_workflow_event(started, "go")
    before = wf_sidecar.now
    assert ["undone"] == wf_sidecar.result(started)
    assert {"done": ["take", "give"]} == wf_store.get("k")
    assert (40, True) == (wf_faults.counts["conflict"], wf_sidecar.now - before > timedelta(minutes=1))


def test_a_history_replays_and_tells_changed_steps(kit, wf_sidecar, wf_faults, wf_serve):
    """
    The ids of the steps come from the history, so an aborted saga replays as it was; with its steps swapped it does not.
    """
    kit.workflow(name="buying")(buying)
    wf_faults.delay("pay", by=DAY, times=1)
    wf_serve(kit)
    wf_sidecar.run("buying", input="k", instance_id="w1")
    history = wf_sidecar.history("w1")
    wf_sidecar.replay(history, payloads=True)
    with WorkflowSidecar() as other:
        changed = WorkflowKit(other.runtime(), "test", port=other.state)

        @changed.workflow(name="buying")
        def swapped(ctx, key):
            saga = Saga(ctx, "buy")
            yield from saga.step("pay", input=key, undo="refund", timeout=HOUR)
            yield from saga.step("take", input=key, undo="give")

        with changed, pytest.raises(NonDeterminismError, match="activity 'take' was recorded"):
            other.replay(history)


def test_a_terminated_saga_is_undone_once(kit, wf_sidecar, wf_faults, wf_serve, wf_store):
    """
    By a repair that is itself disturbed; a second asking starts none, and a late duplicate finds the door shut.
    """

    def waiting(ctx, key):
        saga = Saga(ctx, "wait")
        yield from saga.step("take", input=key, undo="give")
        yield from saga.step("pay", input=key, undo="refund")
        yield from wait_event(ctx, "never")

    kit.workflow(name="waiting")(waiting)
    wf_faults.duplicate("pay", times=1, after=DAY)
    wf_serve(kit)
    client = wf_sidecar.client()
    client.schedule_new_workflow("waiting", input="k", instance_id="w1")
    while (wf_store.get("k") or {"done": []})["done"] != ["take", "pay"]:
        client.wait_for_workflow_start("w1", timeout_in_seconds=10)
    with pytest.raises(RuntimeError, match="terminate it first"):
        resume_saga(client, wf_store, "w1")
    client.terminate_workflow("w1")
    client.wait_for_workflow_completion("w1", timeout_in_seconds=10)
    wf_faults.lose_result(p=0.5)
    repair = resume_saga(client, wf_store, "w1")
    (report,) = wf_sidecar.result(repair.instance_id)
    assert ("aborted", ["undone", "undone"]) == (report["state"], [step["fate"] for step in report["steps"]])
    assert (repair.instance_id, False) == (
        (again := resume_saga(client, wf_store, "w1")).instance_id,
        again.started,
    )
    wf_sidecar.advance(2 * DAY)
    assert {"done": ["take", "pay", "refund", "give"]} == wf_store.get("k")
