"""
The ready workflow of monthly sums: killed at five points, taken over from older code, run a second time.
"""

from __future__ import annotations

import json
import random
import signal

import pytest

from tests.workflows.engine import Context, Engine, StoppedError
from toolkit import StateStore
from toolkit.testing import MemoryStore
from workflows import Checkpoints, WorkflowKit, start_once
from workflows._checkpoint_record import Request, load_record, save_record
from workflows.library import MONTHLY_ROLLUP
from workflows.library.plan import InputFileError
from workflows.library.runner import output_of


def ledger(month: str, count: int = 87) -> str:
    chance = random.Random(month)
    entries = [
        {"id": f"e{number}", "account": chance.choice("abcd"), "amount": chance.randint(-50, 200)}
        for number in range(count)
    ]
    return json.dumps({"month": month, "entries": entries})


@pytest.fixture
def store():
    with StateStore("s", port=MemoryStore("sqlite")) as store:
        yield store


@pytest.fixture
def engine(runtime, activity, store):
    MONTHLY_ROLLUP.register(WorkflowKit(runtime, store))
    return Engine(runtime, activity)


def finish(engine, instance_id, month):
    """
    Run the instance, and the runs it continues as, to the end.
    """
    while True:
        ctx = Context(instance_id)
        result = engine.run(ctx, engine.runtime.workflows["monthly_rollup"](ctx, month))
        if not ctx.continued:
            return result


@pytest.mark.parametrize("at", [0, 1, 4, 9, 17])
def test_a_new_run_goes_on_where_the_old_one_ended(engine, store, at):
    """
    Ended for good after so many activities, under another id: no page is counted twice or left out.
    """
    plan = MONTHLY_ROLLUP.plan(ledger("2026-01"))
    plan.prepare(store)

    def stop(_name, _value):
        if len(engine.called) > at:
            raise StoppedError

    engine.before = stop
    with pytest.raises(StoppedError):
        finish(engine, "first", "2026-01")
    engine.before = lambda *_: None
    report = plan.check(store, [finish(engine, "second", "2026-01")])
    assert {} == report["wrong"]
    assert report["ok"]


def test_a_month_that_is_done_is_not_done_again(engine, store):
    """
    A second run reads no page.
    """
    plan = MONTHLY_ROLLUP.plan(ledger("2026-02", 20))
    plan.prepare(store)
    first = finish(engine, "first", "2026-02")
    engine.called.clear()
    assert first == finish(engine, "second", "2026-02")
    assert "rollup-page" not in engine.called


def test_a_checkpoint_of_older_code_is_taken_over(engine, store):
    """
    Version 1 was at page 3 and had one sum: the pages are read again, and the result is exact.
    """
    plan = MONTHLY_ROLLUP.plan(ledger("2026-03"))
    plan.prepare(store)
    old = {"owner": "old", "at": 1.0, "version": 1, "data": {"page": 3, "sum": 77}}
    store.transact(load_record, Request("monthly-rollup", "2026-03", **old))
    store.transact(save_record, Request("monthly-rollup", "2026-03", **old, epoch=1, seq=1))
    report = plan.check(store, [finish(engine, "new", "2026-03")])
    assert report["ok"]
    assert 2 == Checkpoints(store).get("monthly-rollup", "2026-03")["version"]


@pytest.mark.parametrize(
    ("text", "word"),
    [("[]", "looks like this"), ('{"month": "", "entries": []}', "no name")],
)
def test_wrong_files_are_refused(text, word):
    """
    With what is wrong and how it should look.
    """
    with pytest.raises(InputFileError, match=word):
        MONTHLY_ROLLUP.plan(text)


def test_five_workers_die_and_the_sums_are_exact(daprd, worker, client_at):
    """
    On the real engine, each right after a commit whose result the engine never hears of; a sixth one ends the job.
    """
    address = daprd(workflows=True, app_id="rollup").grpc_endpoint
    client = client_at(address)
    plan = MONTHLY_ROLLUP.plan(ledger("2026-04", 287))
    (job,) = plan.jobs
    with StateStore("statestore", address=address) as store:
        plan.prepare(store)
        # One stays: when the only one goes, daprd 1.18 at times serves the next only after more than a minute.
        staying = worker(address, "statestore")
        dying = [worker(address, "statestore", commits=commits) for commits in (1, 2, 3, 4, 5)]
        assert start_once(client, job.workflow, key=job.instance_id, input=job.input, store=store).started
        assert [-signal.SIGKILL] * 5 == [each.ended() for each in dying]
        report = plan.check(store, [output_of(client, job.instance_id, 90)])
        staying.kill()
    assert {} == report["wrong"]
    assert report["ok"]
