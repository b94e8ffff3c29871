"""
The test kit for workflows: virtual time, faults that replay, and histories that catch changed code.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest

from toolkit import RetryPolicy, StateStore
from toolkit.testing import WorkflowFailedError, WorkflowSidecar
from workflows import Escalation, WorkflowKit, call_effect, raise_event, wait_event
from workflows.library import TRANSFER
from workflows.library.runner import run_plan

pytest_plugins = ["toolkit.testing.pytest_workflows"]


def add(tx, given):
    value = tx.get(given["key"], {"n": 0})["n"] + given["amount"]
    tx.put(given["key"], {"n": value})
    return value


@pytest.fixture
def kit(wf_sidecar):
    """
    A kit with one effect, not started yet.
    """
    kit = WorkflowKit(wf_sidecar.runtime(), "test", port=wf_sidecar.state)
    kit.effect(name="add")(add)
    return kit


def adding(ctx, amounts):
    """
    Add one after the other.
    """
    value = 0
    for amount in amounts:
        value = yield from call_effect(ctx, "add", input={"key": "sum", "amount": amount})
    return value


def book(seed: int) -> str:
    """
    300 postings between twenty accounts, all of which can be carried out.
    """
    chance = random.Random(seed)
    names = [f"account-{number}" for number in range(20)]
    postings = []
    for number in range(300):
        src, dst = chance.sample(names, 2)
        postings.append({"id": f"p{number}", "src": src, "dst": dst, "amount": chance.randint(1, 9)})
    return json.dumps({"accounts": dict.fromkeys(names, 1000), "postings": postings})


def test_300_transfers_end_exact(wf_sidecar, wf_faults, wf_serve, wf_store):
    """
    With a fifth of all results lost, and workers that crash, every account ends exact.
    """
    wf_faults.lose_result(p=0.2).crash_after(p=0.01, times=5).rerun_turn(p=0.02)
    kit = WorkflowKit(wf_sidecar.runtime(), "test", port=wf_sidecar.state)
    TRANSFER.register(kit)
    wf_serve(kit)
    report = run_plan(TRANSFER.plan(book(300)), wf_sidecar.client(), wf_store, timeout=100)
    assert {"ok": True, "postings": 300, "done": 300, "refused": 0, "total": 20000, "wrong": {}} == report
    assert wf_faults.counts["lose_result"] > 60


def test_a_plain_activity_is_applied_twice(wf_sidecar, wf_faults, wf_serve, wf_store):
    """
    The control: what the faults do to an activity that is no effect.
    """
    runtime = wf_sidecar.runtime()

    def plain(ctx, amount):
        wf_store.update("sum", lambda value: {"n": value["n"] + amount}, default={"n": 0})

    def workflow(ctx, amount):
        yield ctx.call_activity("plain", input=amount)

    runtime.register_activity(plain, name="plain")
    runtime.register_workflow(workflow, name="plain-adding")
    wf_faults.lose_result("plain", times=1)
    wf_serve(runtime)
    wf_sidecar.run("plain-adding", input=5)
    assert {"n": 10} == wf_store.get("sum")


@pytest.mark.parametrize("fault", ["lose_result", "crash_before", "crash_after", "duplicate"])
def test_an_effect_is_applied_once(fault, kit, wf_sidecar, wf_faults, wf_serve, wf_store):
    """
    Whatever befalls its delivery.
    """
    kit.workflow(name="adding")(adding)
    getattr(wf_faults, fault)("add", times=2)
    wf_serve(kit)
    assert 6 == wf_sidecar.run("adding", input=[1, 2, 3])
    assert ({"n": 6}, {fault: 2}) == (wf_store.get("sum"), dict(wf_faults.counts))


def test_a_late_duplicate_changes_nothing(kit, wf_sidecar, wf_faults, wf_serve, wf_store):
    """
    The second copy comes an hour after the workflow is over.
    """
    kit.workflow(name="adding")(adding)
    wf_faults.duplicate("add", times=1, after=timedelta(hours=1))
    wf_serve(kit)
    assert 3 == wf_sidecar.run("adding", input=[1, 2])
    assert 2 == wf_sidecar.deliveries["add"]
    wf_sidecar.advance(timedelta(hours=2))
    assert ({"n": 3}, 3) == (wf_store.get("sum"), wf_sidecar.deliveries["add"])


def test_conflicts_go_on_by_durable_timer(wf_sidecar, wf_faults, wf_serve, wf_store):
    """
    More conflicts than an activity settles: the next attempt is later, under the same operation.
    """
    kit = WorkflowKit(wf_sidecar.runtime(), "test", port=wf_sidecar.state)
    kit.effect(name="add", retry=RetryPolicy(attempts=2, initial=0.001))(add)
    kit.workflow(name="adding")(adding)
    wf_serve(kit)
    wf_store.set("sum", {"n": 1})
    wf_faults.conflict("sum", times=5)
    before = wf_sidecar.now
    assert 6 == wf_sidecar.run("adding", input=[5])
    assert (5, True) == (wf_faults.counts["conflict"], wf_sidecar.now > before)
    assert wf_sidecar.deliveries["add"] >= 3


def test_conflicts_without_end(wf_sidecar, wf_faults, wf_serve, wf_store):
    """
    A policy that gives up: the workflow fails, and its error tells of the conflicts.
    """
    kit = WorkflowKit(wf_sidecar.runtime(), "test", port=wf_sidecar.state)
    kit.effect(name="add", retry=RetryPolicy(attempts=2, initial=0.001))(add)

    @kit.workflow(name="impatient")
    def impatient(ctx, _):
        policy = Escalation(attempts=2)
        yield from call_effect(ctx, "add", input={"key": "sum", "amount": 1}, policy=policy)

    wf_serve(kit)
    wf_store.set("sum", {"n": 0})
    wf_faults.conflict("sum", times=100)
    with pytest.raises(WorkflowFailedError, match="lost 2 conflicts in 2 attempts"):
        wf_sidecar.run(impatient)
    assert {"n": 0} == wf_store.get("sum")


def test_days_pass_in_no_time(kit, wf_sidecar, wf_serve):
    """
    The clock jumps from timer to timer while somebody waits, and stands still otherwise.
    """

    @kit.workflow(name="daily")
    def daily(ctx, days):
        for _ in range(days):
            yield ctx.create_timer(timedelta(days=1))
        return ctx.current_utc_datetime.isoformat()

    wf_serve(kit)
    assert "2026-03-02T00:00:00" == wf_sidecar.run("daily", input=60)
    waits = wf_sidecar.client().schedule_new_workflow("daily", input=2)
    wf_sidecar.settle()
    assert datetime(2026, 3, 2, tzinfo=UTC) == wf_sidecar.now
    wf_sidecar.advance(timedelta(days=1, hours=1))
    assert "RUNNING" == wf_sidecar.client().get_workflow_state(waits).runtime_status.name
    wf_sidecar.advance(timedelta(days=1))
    assert "COMPLETED" == wf_sidecar.client().get_workflow_state(waits).runtime_status.name


def test_an_event_beats_its_timeout(kit, wf_sidecar, wf_serve):
    """
    Sent before the wait it wins; never sent, the timeout does, after its time.
    """

    @kit.workflow(name="asking")
    def asking(ctx, _):
        try:
            return (yield from wait_event(ctx, "answer", timeout=timedelta(days=7)))
        except TimeoutError:
            return "none"

    wf_serve(kit)
    client = wf_sidecar.client()
    client.schedule_new_workflow("asking", instance_id="w1")
    raise_event(client, "w1", "answer", False)
    assert wf_sidecar.result("w1") is False
    assert datetime(2026, 1, 1, tzinfo=UTC) == wf_sidecar.now
    wf_sidecar.advance(timedelta(days=3))
    # The timer of the first one is over with it, and no reason to stop on the way.
    assert "none" == wf_sidecar.run("asking")
    assert datetime(2026, 1, 11, tzinfo=UTC) == wf_sidecar.now


def test_a_workflow_that_cannot_end(kit, wf_sidecar, wf_serve):
    """
    The error says what it did last and that nothing more can happen.
    """

    @kit.workflow(name="stuck")
    def stuck(ctx, _):
        yield from call_effect(ctx, "add", input={"key": "a", "amount": 1})
        yield ctx.wait_for_external_event("never")

    wf_serve(kit)
    with pytest.raises(
        WorkflowFailedError, match=r"is RUNNING after 0\.5 s; its last steps: activity 'add', timer"
    ):
        wf_sidecar.run(stuck, timeout=0.5)


def schedule_of(seed: int) -> list[str]:
    """
    The order in which a seed lets two workflows commit.
    """
    order = []
    with WorkflowSidecar(seed=seed, in_flight=1) as sidecar:
        kit = WorkflowKit(sidecar.runtime(), "test", port=sidecar.state)

        @kit.effect(name="note")
        def note(tx, name):
            order.append(name)

        @kit.workflow(name="noting")
        def noting(ctx, name):
            for number in range(5):
                yield from call_effect(ctx, note, input=f"{name}{number}")

        with kit:
            client = sidecar.client()
            for name in "ab":
                client.schedule_new_workflow(
                    "noting", input=name, instance_id=name, start_at=sidecar.now + timedelta(1)
                )
            for name in "ab":
                sidecar.result(name)
    return order


def test_a_seed_is_a_schedule():
    """
    One delivery at a time: a seed gives the same order again, and seeds differ.
    """
    first = [schedule_of(seed) for seed in range(4)]
    assert first == [schedule_of(seed) for seed in range(4)]
    assert len({tuple(order) for order in first}) > 1


def test_faults_that_would_never_end():
    """
    A fault needs a chance below one, or a number.
    """
    with WorkflowSidecar() as sidecar:
        with pytest.raises(ValueError, match="would happen for ever"):
            sidecar.faults.lose_result("debit")
        with pytest.raises(ValueError, match="no chance"):
            sidecar.faults.lose_result("debit", p=2)
    with pytest.raises(ValueError, match="in_flight"):
        WorkflowSidecar(in_flight=0)
    with pytest.raises(RuntimeError, match="enter the WorkflowSidecar first"):
        WorkflowSidecar().runtime()


def test_it_is_not_imported_with_the_toolkit():
    """
    Neither the toolkit nor its testing package loads it, or the workflow SDK.
    """
    code = "import sys, toolkit, toolkit.testing; print([m for m in sys.modules if 'taskhub' in m or 'workflow' in m])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "[]\n" == ran.stdout


def test_a_failure_reports_its_seed(tmp_path):
    """
    The plugin takes a seed, and says how to repeat a failed run.
    """
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_fails.py").write_text("def test_it(wf_sidecar):\n    assert wf_sidecar.seed == 7\n")
    plugin = ["-p", "no:cacheprovider", "-p", "toolkit.testing.pytest_workflows"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugin, "test_fails.py", "--wf-seed", "5"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=tmp_path,
        # Other plugins have no part in this, and take long to load.
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    assert (1, True) == (
        ran.returncode,
        "again with: pytest 'test_fails.py::test_it' --wf-seed 5" in ran.stdout,
    )


def test_state_outlives_the_worker(wf_sidecar, wf_store):
    """
    A second worker goes on where the first one stopped.
    """
    client = wf_sidecar.client()
    for _ in range(2):
        kit = WorkflowKit(wf_sidecar.runtime(), "test", port=wf_sidecar.state)
        kit.effect(name="add")(add)

        @kit.workflow(name="two-days")
        def two_days(ctx, _):
            yield from call_effect(ctx, "add", input={"key": "days", "amount": 1})
            yield ctx.wait_for_external_event("next")
            return (yield from call_effect(ctx, "add", input={"key": "days", "amount": 1}))

        with kit:
            if client.get_workflow_state("w1") is None:
                client.schedule_new_workflow("two-days", instance_id="w1")
                wf_sidecar.settle()
                assert {"n": 1} == wf_store.get("days")
            else:
                client.raise_workflow_event("w1", "next")
                assert 2 == wf_sidecar.result("w1")
    with StateStore("test", port=wf_sidecar.state) as other:
        assert {"n": 2} == other.get("days")


def test_it_ends_its_workers():
    """
    A runtime that nobody stopped ends with it, and keeps no thread.
    """
    before = set(threading.enumerate())
    with WorkflowSidecar() as sidecar:
        runtime = sidecar.runtime()
        runtime.start()
        assert runtime.wait_for_worker_ready()
    assert "WorkerRunLoop" not in {thread.name for thread in set(threading.enumerate()) - before}
