"""
The ready workflow of orders: under faults in memory, and through the real engine with a worker that dies.
"""

from __future__ import annotations

import json
import random
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from tests.workflows.engine import Context, Engine
from tests.workflows.worker import BEGIN
from toolkit import StateStore
from toolkit.sidecar.resources import default_component
from toolkit.testing import FaultProxy, MemoryStore
from workflows import Saga, WorkflowKit, raise_event, resume_saga, saga_record, start_once, wait_event
from workflows._payload import event_payload
from workflows.effects import NonRetryableError
from workflows.library import RESERVE_ORDER
from workflows.library.plan import InputFileError
from workflows.library.reserve_order import Order, fill
from workflows.library.runner import host_and_port, output_of


def shop(seed: int, prefix: str = "") -> str:
    """
    Forty orders for less stock and money than they ask for.
    """
    chance = random.Random(seed)
    orders = [
        {
            "id": f"{prefix}o{number}",
            "customer": prefix + chance.choice("abcd"),
            "item": prefix + chance.choice("xyz"),
            "count": chance.randint(1, 3),
            "price": chance.randint(1, 9),
        }
        for number in range(40)
    ]
    customers = {prefix + name: 60 for name in "abcd"}
    return json.dumps(
        {"stock": {prefix + name: 20 for name in "xyz"}, "customers": customers, "orders": orders}
    )


@pytest.mark.parametrize("seed", range(20))
def test_stock_and_money_are_exact_under_faults(seed, runtime, activity):
    """
    A fifth of the answers are lost for good, before or after the commit; activities are delivered twice.
    """
    chance = random.Random(f"faults-{seed}")
    with StateStore("s", port=MemoryStore("sqlite")) as store:
        kit = WorkflowKit(runtime, store)
        RESERVE_ORDER.register(kit)
        plan = RESERVE_ORDER.plan(shop(seed))
        plan.prepare(store)
        engine = Engine(runtime, activity)
        # A pivot whose answer is lost for good has committed: somebody asks for it once more.
        engine.events.extend([event_payload("retry")] * 100)

        def fault(name, value):
            if not name.startswith("order-") or name in ("order-release", "order-refund"):
                return
            if chance.random() < 0.2:
                runtime.activities[name](activity("twice"), value)
            if chance.random() < 0.2:
                raise NonRetryableError("the answer is lost")

        engine.before = fault
        outputs = []
        for job in plan.jobs:
            ctx = Context(job.instance_id)
            order = Order(**job.input)
            outputs.append(engine.run(ctx, fill(ctx, order)))
        report = plan.check(store, outputs)
        assert {} == report["wrong"], f"seed {seed}"
        assert report["ok"]
        assert 0 < report["shipped"] < 40


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[]", "looks like this"),
        (
            json.dumps(
                {
                    "stock": {},
                    "customers": {},
                    "orders": [{"id": "o", "customer": "a", "item": "x", "count": 0, "price": 1}],
                }
            ),
            "at least one",
        ),
        (
            json.dumps(
                {
                    "stock": {},
                    "customers": {},
                    "orders": [{"id": "o", "customer": "a", "item": "x", "count": 1, "price": 1}] * 2,
                }
            ),
            "twice",
        ),
    ],
)
def test_wrong_files_are_refused(text, word):
    """
    With what is wrong and how it should look.
    """
    with pytest.raises(InputFileError, match=word):
        RESERVE_ORDER.plan(text)


def carried_out(plan, store_name, sidecar, worker, client):
    """
    The report of a plan whose two workers work through a line with faults, and one of them kills itself.
    """
    rates = {"drop_reply": 0.1, "duplicate": 0.05, "late_duplicate": 0.05}
    with (
        StateStore(store_name, address=sidecar.grpc_endpoint) as store,
        FaultProxy(sidecar.grpc_port, seed=3, rates=rates, late_after=1.0) as proxy,
        ThreadPoolExecutor(4) as threads,
    ):
        plan.prepare(store)
        line = f"127.0.0.1:{proxy.port}"
        dying, _staying = worker(line, store_name, commits=20), worker(line, store_name)

        def start(job):
            inp = {"workflow": job.workflow, "input": job.input}
            return start_once(client, "gated-here", key=job.instance_id, input=inp, store=store).started

        # All are started before the first one begins: Dapr leaves a start unanswered whose worker dies meanwhile.
        assert [True] * len(plan.jobs) == list(threads.map(start, plan.jobs))
        list(threads.map(lambda job: raise_event(client, job.instance_id, BEGIN), plan.jobs))
        assert -signal.SIGKILL == dying.ended()
        outputs = [output_of(client, job.instance_id, 120) for job in plan.jobs]
        assert sum(proxy.faults.values()) > 0
        return plan.check(store, outputs)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("store_name", ["statestore", "redis"])
def test_orders_end_exact_though_a_worker_dies(store_name, daprd, server_named, tmp_path, worker, client_at):
    """
    On embedded SQLite, which has transactions of its own, and on Redis, which has none.
    """
    components = [default_component(tmp_path)]
    if store_name == "redis":
        components.append(server_named("redis").component("redis"))
    sidecar = daprd(components=components, workflows=True, app_id="orders")
    plan = RESERVE_ORDER.plan(shop(3, "live-"))
    report = carried_out(plan, store_name, sidecar, worker, client_at(sidecar.grpc_endpoint))
    assert {} == report["wrong"]
    assert report["ok"]
    assert 0 < report["shipped"] < 40


def waiting(ctx, order: Order):
    """
    An order that waits between charge and shipment.
    """
    saga = Saga(ctx, "order")
    yield from saga.step("order-reserve", input=order, undo="order-release")
    yield from saga.step("order-charge", input=order, undo="order-refund")
    yield from wait_event(ctx, "go", timeout=timedelta(minutes=5))


def test_a_terminated_order_is_undone(workflow_sidecar, client_at):
    """
    Terminated between charge and shipment nothing is undone, until somebody asks for it; a second asking does nothing.
    """
    from dapr.ext.workflow import WorkflowRuntime

    address = workflow_sidecar.grpc_endpoint
    client = client_at(address)
    with StateStore("statestore", address=address) as store:
        kit = WorkflowKit(WorkflowRuntime(**host_and_port(address)), store)
        RESERVE_ORDER.register(kit)

        waits = kit.workflow(name="order-that-waits")(waiting)
        plan = RESERVE_ORDER.plan(shop(4, "stop-"))
        plan.prepare(store)
        order = {"id": "stop", "customer": "stop-a", "item": "stop-x", "count": 2, "price": 3}
        with kit:
            start_once(client, waits, key="stop-order", input=order, store=store)
            while store.get("customer/stop-a")["charges"] == 0:
                assert client.wait_for_workflow_start("stop-order", timeout_in_seconds=30)
            with pytest.raises(RuntimeError, match="running"):
                resume_saga(client, store, "stop-order")
            client.terminate_workflow("stop-order")
            client.wait_for_workflow_completion("stop-order", timeout_in_seconds=60)
            assert {"stop": 2} == store.get("stock/stop-x")["reserved"]
            repair = resume_saga(client, store, "stop-order")
            assert repair.started
            (report,) = output_of(client, repair.instance_id, 60)
            assert ("aborted", ["undone", "undone"]) == (
                report["state"],
                [step["fate"] for step in report["steps"]],
            )
            assert not resume_saga(client, store, "stop-order").started
        assert {"free": 20, "reserved": {}, "shipped": 0} == store.get("stock/stop-x")
        assert {"money": 60, "charges": 0} == store.get("customer/stop-a")
        assert "aborted" == saga_record(store, "stop-order")["sagas"]["order"]["state"]
