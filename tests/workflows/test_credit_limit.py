"""
The ready workflow ``credit_limit``: no two withdrawals spend the same credit, at any isolation that is asked to care.
"""

from __future__ import annotations

import json
import random
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.workflows.worker import BEGIN
from toolkit import RecordedError, StateStore, transactional
from toolkit.testing import FaultProxy, MemoryStore
from workflows import raise_event
from workflows.library import CREDIT_LIMIT, InputFileError
from workflows.library.credit_limit import LimitError, Withdrawal, withdraw
from workflows.library.runner import output_of
from workflows.starts import start_once

# Either withdrawal fits alone: 200 in hand and 100 of credit. Both together do not.
PAIR = {
    "customers": {"acme": {"limit": 100, "accounts": {"main": 100, "savings": 100}}},
    "withdrawals": [
        {"id": "w1", "customer": "acme", "account": "main", "amount": 250},
        {"id": "w2", "customer": "acme", "account": "savings", "amount": 250},
    ],
}


def both_at_once(port, isolation):
    """
    The second withdrawal runs, whole, between what the first one reads and what it commits; the report of the check.
    """
    plan = CREDIT_LIMIT.plan(json.dumps(PAIR))
    first, second = (Withdrawal(**job.input) for job in plan.jobs)
    outputs, runs = {}, []
    with (
        StateStore("s", port=port) as store,
        StateStore("s", port=port) as other,
        ThreadPoolExecutor(1) as thread,
    ):
        plan.prepare(store)

        def take(at, order, body):
            run = transactional(name="credit-withdraw", isolation=isolation)(body)
            try:
                left = at.transact(run, op_id=order.id, record_errors=(LimitError,))
            except RecordedError as refused:
                outputs[order.id] = {"id": order.id, "done": False, "reason": refused.message}
            else:
                outputs[order.id] = {"id": order.id, "done": True, "sum": left}

        def overtaken(tx):
            runs.append(1)
            left = withdraw(tx, first)
            if len(runs) == 1:
                thread.submit(take, other, second, lambda inner: withdraw(inner, second)).result(60)
            return left

        take(store, first, overtaken)
        return plan.check(store, list(outputs.values())), len(runs)


@pytest.mark.parametrize("profile", ["sqlite", "redis"])
def test_serializable_keeps_the_limit(profile):
    """
    The one that comes second to commit is run again, sees what the first one left, and is refused.
    """
    report, runs = both_at_once(MemoryStore(profile), "serializable")
    assert {"ok": True, "done": 1, "refused": 1, "overdrawn": [], "credit": {"acme": 50}} == {
        name: report[name] for name in ("ok", "done", "refused", "overdrawn", "credit")
    }
    assert 2 == runs


@pytest.mark.parametrize("profile", ["sqlite", "redis"])
def test_read_committed_breaks_it(profile):
    """
    The same two at read committed both go through, no balance is wrong by itself, and the customer is overdrawn.
    """
    report, runs = both_at_once(MemoryStore(profile), "read_committed")
    assert {"ok": False, "done": 2, "overdrawn": ["acme"], "wrong": {}, "credit": {"acme": -200}} == {
        name: report[name] for name in ("ok", "done", "overdrawn", "wrong", "credit")
    }
    assert 1 == runs


def test_the_check_sees_a_refusal_in_vain_and_a_wrong_balance():
    """
    A report that all is well is not for free.
    """
    plan = CREDIT_LIMIT.plan(json.dumps(PAIR))
    with StateStore("s", port=MemoryStore()) as store:
        plan.prepare(store)
        plan.prepare(store)
        refused = plan.check(store, [{"id": name, "done": False} for name in ("w1", "w2")])
        assert (False, ["w1", "w2"]) == (refused["ok"], refused["refused_in_vain"])
        lost = plan.check(store, [{"id": "w1", "done": True, "sum": -50}, {"id": "w2", "done": False}])
        assert (False, {"credit/acme/main": {"due": -150, "found": 100}}) == (lost["ok"], lost["wrong"])


def test_an_account_that_is_not_there_is_refused():
    """
    A withdrawal started beside the command, for a customer nobody opened.
    """
    with (
        StateStore("s", port=MemoryStore()) as store,
        pytest.raises(LimitError, match="no account 'main'"),
    ):
        store.transact(withdraw, Withdrawal("w1", "nobody", "main", 5))


def changed(**change):
    return json.dumps({**PAIR, **change})


ORDER = PAIR["withdrawals"][0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "it looks like this"),
        (changed(withdrawals=[ORDER, ORDER]), "'w1' is used twice"),
        (changed(withdrawals=[{**ORDER, "account": "none"}]), "no account 'none' of 'acme'"),
        (changed(withdrawals=[{**ORDER, "customer": "none"}]), "no account 'main' of 'none'"),
        (changed(withdrawals=[{**ORDER, "amount": 0}]), "'w1' must take a positive amount"),
        (changed(customers={"acme": {"limit": 0, "accounts": {"main": -1}}}), "'acme' must have a limit"),
    ],
)
def test_input_that_makes_no_sense_is_named(text, message):
    """
    The message says what and where.
    """
    with pytest.raises(InputFileError, match=message):
        CREDIT_LIMIT.plan(text)


def crowded(seed):
    """
    Forty withdrawals by two customers who can afford about half of them, from three accounts each.
    """
    chance = random.Random(seed)
    accounts = {"main": 300, "savings": 200, "travel": 100}
    orders = [
        {
            "id": f"live-{number}",
            "customer": chance.choice(("ash", "elm")),
            "account": chance.choice(list(accounts)),
            "amount": chance.randint(20, 100),
        }
        for number in range(40)
    ]
    customers = {name: {"limit": 100, "accounts": accounts} for name in ("ash", "elm")}
    return json.dumps({"customers": customers, "withdrawals": orders})


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_limit_holds_under_faults(daprd, worker, client_at):
    """
    On the real engine: answers of the store lost, writes doubled and repeated late, and one of two workers killed.
    """
    seed = 5
    sidecar = daprd(workflows=True, app_id="credit")
    plan = CREDIT_LIMIT.plan(crowded(seed))
    rates = {"drop_reply": 0.1, "duplicate": 0.05, "late_duplicate": 0.05}
    with (
        StateStore("statestore", address=sidecar.grpc_endpoint) as store,
        FaultProxy(sidecar.grpc_port, seed=seed, rates=rates, late_after=1.0) as proxy,
        ThreadPoolExecutor(4) as threads,
    ):
        plan.prepare(store)
        client = client_at(sidecar.grpc_endpoint)
        line = f"127.0.0.1:{proxy.port}"
        dying = worker(line, "statestore", commits=8)
        _staying = worker(line, "statestore")

        def start(job):
            inp = {"workflow": job.workflow, "input": job.input}
            return start_once(client, "gated-here", key=job.instance_id, input=inp, store=store).started

        assert [True] * 40 == list(threads.map(start, plan.jobs))
        list(threads.map(lambda job: raise_event(client, job.instance_id, BEGIN), plan.jobs))
        assert -signal.SIGKILL == dying.ended()
        report = plan.check(store, [output_of(client, job.instance_id, 120) for job in plan.jobs])
        assert sum(proxy.faults.values()) > 0
    assert report["ok"], f"seed {seed}: {report}"
    assert 0 < report["refused"] < 40
