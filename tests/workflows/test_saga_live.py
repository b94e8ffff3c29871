"""
Sagas through the real engine: attempts that come late, and an operator's word.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from datetime import timedelta

import grpc
import pytest

from toolkit import RetryPolicy, StateStore
from workflows import (
    EffectVoidedError,
    Saga,
    SagaAbortedError,
    WorkflowKit,
    call_effect,
    resolve_saga,
    start_once,
)
from workflows.library.runner import host_and_port, output_of

WAIT = 60


class Place:
    """
    A kit on the sidecar, its store and a client; ``ended`` hears how each delivery of a watched effect ended.
    """

    def __init__(self, address, client, store) -> None:
        from dapr.ext.workflow import WorkflowRuntime

        self.client, self.store = client, store
        self.kit = WorkflowKit(WorkflowRuntime(**host_and_port(address)), store)
        self.ended = queue.Queue()

    def effect(self, name, **options):
        """
        An effect that adds its name to the key it is given; ``act`` runs before that, ``answer`` between commit and answer.
        """
        act, answer = options.pop("act", lambda tx: None), options.pop("answer", lambda: None)
        # The attempt that is held back must end by what it finds, not by the clock.
        patient = RetryPolicy(attempts=8, deadline=2.0 * WAIT)

        def body(tx, key):
            value = tx.get(key, {"done": []})
            act(tx)
            tx.put(key, {"done": [*value["done"], name]})
            return name

        effect = self.kit.effect(name=name, retry=patient, **options)(body)
        apply = effect.apply

        def watched(store, delivery):
            try:
                found = apply(store, delivery)
            except Exception as error:
                self.ended.put((name, delivery.void, type(error).__name__))
                raise
            if not delivery.void:
                answer()
            self.ended.put((name, delivery.void, found))
            return found

        effect.apply = watched
        return effect

    def run(self, workflow, key, value=None):
        start_once(self.client, workflow, key=key, input=value, store=self.store)
        return output_of(self.client, key, WAIT)


@pytest.fixture
def place(workflow_sidecar, client_at):
    address = workflow_sidecar.grpc_endpoint
    with StateStore("statestore", address=address) as store:
        yield Place(address, client_at(address), store)


def fates(report):
    return [step["fate"] for step in report["steps"]]


def register_orders(place, release):
    """
    A payment whose answer hangs, a shipment that hangs before its commit, and a workflow that delivers both once more.
    """
    pay = place.effect("live-pay", answer=lambda: release.wait(WAIT))
    refund = place.effect("live-refund")
    ship = place.effect("live-ship", act=lambda tx: release.wait(WAIT))
    unship = place.effect("live-unship")

    @place.kit.workflow(name="live-two-orders")
    def orders(ctx, key):
        reports = []
        for step, undo in ((pay, refund), (ship, unship)):
            saga = Saga(ctx, step.name)
            try:
                yield from saga.step(step, input=key, undo=undo, timeout=timedelta(seconds=2))
            except SagaAbortedError as aborted:
                reports.append(aborted.report)
        return reports

    @place.kit.workflow(name="live-late")
    def late(ctx, ops):
        found = []
        for effect, op in zip((pay, ship), ops, strict=True):
            try:
                found.append((yield from call_effect(ctx, effect, input="live-key", op=op)))
            except EffectVoidedError:
                found.append("voided")
        return found

    return orders, late


def test_late_attempts_at_undone_steps_change_nothing(place):
    """
    One step commits and its answer hangs, one hangs before its commit: both are let go after the saga is undone.

    Afterwards both operations are delivered once more, by another workflow.
    """
    release = threading.Event()
    orders, late = register_orders(place, release)
    with contextlib.ExitStack() as stack:
        stack.enter_context(place.kit)
        stack.callback(release.set)
        reports = place.run(orders, "live-orders", "live-key")
        assert [["undone"], ["voided"]] == [fates(report) for report in reports]
        exact = {"done": ["live-pay", "live-refund"]}
        assert exact == place.store.get("live-key")
        release.set()
        held = set()
        while len(held) < 2:
            name, void, found = place.ended.get(timeout=WAIT)
            held |= {(name, found)} if not void and name in ("live-pay", "live-ship") else set()
        assert {("live-pay", "live-pay"), ("live-ship", "OperationVoidedError")} == held
        assert exact == place.store.get("live-key")
        ops = [report["steps"][0]["op"] for report in reports]
        assert ["live-pay", "voided"] == place.run(late, "live-late-1", ops)
        assert exact == place.store.get("live-key")


def test_an_operator_is_asked_and_heard(place):
    """
    An undo with a bug: the custom status says so; after the repair the word ``retry`` undoes everything.
    """
    broken = threading.Event()
    broken.set()

    def bug(tx):
        if broken.is_set():
            raise ZeroDivisionError("a bug")

    take, give = place.effect("live-take"), place.effect("live-give", act=bug)

    @place.kit.workflow(name="live-stuck")
    def stuck(ctx, key):
        saga = Saga(ctx, "stuck")
        try:
            yield from saga.step(take, input=key, undo=give)
            yield from saga.abort("changed my mind")
        except SagaAbortedError as aborted:
            return aborted.report

    with place.kit:
        start_once(place.client, stuck, key="live-stuck-1", input="live-stuck-key", store=place.store)
        end = time.monotonic() + WAIT
        status = ""
        while "needs-attention" not in status:
            assert time.monotonic() < end, f"no call for attention, the status is {status!r}"
            with contextlib.suppress(queue.Empty):
                place.ended.get(timeout=0.1)
            # Asked while it saves a turn, daprd at times finds half of it and says so.
            with contextlib.suppress(grpc.RpcError):
                status = str(place.client.get_workflow_state("live-stuck-1").serialized_custom_status)
        assert "ZeroDivisionError" in status
        broken.clear()
        resolve_saga(place.client, "live-stuck-1", "skip", step="another")  # not meant for this step
        resolve_saga(place.client, "live-stuck-1", "retry", step="live-take")
        report = output_of(place.client, "live-stuck-1", WAIT)
        assert ["undone"] == fates(report)
        assert ["retry"] == [call["action"] for call in report["attention"]]
        assert {"done": ["live-take", "live-give"]} == place.store.get("live-stuck-key")
        with pytest.raises(RuntimeError, match="completed"):
            resolve_saga(place.client, "live-stuck-1", "retry")
