"""
A worker that has its stream and is not served: the sidecar is made to let it in.
"""

from __future__ import annotations

import contextlib
import threading
import types

import grpc
import pytest

from toolkit import AsyncStateStore, SidecarUnavailableError
from toolkit.testing import WorkflowSidecar
from workflows import WorkflowKit, _hosting
from workflows._hosting import Hosting


class NotHostedError(grpc.RpcError):
    def __init__(self, text: str, code: grpc.StatusCode = grpc.StatusCode.UNKNOWN) -> None:
        super().__init__(text)
        self.text, self.status = text, code

    def details(self) -> str:
        return self.text

    def code(self) -> grpc.StatusCode:
        return self.status


class Worker:
    """
    A stand-in for the SDK's worker; it is served once ``locked`` is down to nothing.
    """

    def __init__(self, locked: int) -> None:
        self.locked, self.asked, self.knocks = locked, 0, 0
        self._response_stream = object()
        self._current_channel = object()

    def is_worker_ready(self):
        return True

    @contextlib.contextmanager
    def _sidecar_stub(self, wait):
        yield types.SimpleNamespace(RaiseEvent=self.answer)

    def answer(self, request, timeout):
        self.asked += 1
        if self.locked:
            raise NotHostedError("failed to create actor: actor type dapr.internal.x.workflow not registered")
        raise NotHostedError("no such instance exists")


def hosting(worker: Worker) -> Hosting:
    return Hosting(types.SimpleNamespace(_WorkflowRuntime__worker=worker))


def test_a_worker_that_is_served():
    """
    One question is enough; another error than "not registered" means that somebody answers for workflows.
    """
    worker = Worker(0)
    watched = hosting(worker)
    assert watched.start(5)
    watched.stop()
    assert (1, True) == (worker.asked, watched.served)


def test_a_worker_that_is_locked_out(monkeypatch):
    """
    After some patience it knocks, until it is served.
    """
    worker = Worker(2)

    def knock(self):
        worker.locked -= 1

    monkeypatch.setattr(_hosting, "PATIENCE", 0.0)
    monkeypatch.setattr(Hosting, "_knock", knock)
    watched = hosting(worker)
    assert watched.start(30)
    watched.stop()
    assert 0 == worker.locked


def test_a_worker_that_is_never_served():
    """
    The wait is bounded.
    """
    watched = hosting(Worker(1))
    assert (False, False) == (watched.start(0.3), watched.served)


def test_a_new_stream_is_looked_at_again(monkeypatch):
    """
    A worker that lost its stream and has another one is asked for again.
    """
    asked = threading.Event()
    worker = Worker(0)
    watched = hosting(worker)
    assert watched.start(5)
    monkeypatch.setattr(worker, "answer", lambda request, timeout: asked.set())
    worker._response_stream = object()
    assert asked.wait(30)
    watched.stop()


def test_something_else_than_the_sdk():
    """
    Of a runtime that has no worker of the SDK nothing is asked.
    """
    watched = Hosting(object())
    assert watched.start(5)
    watched.stop()
    watched.close()


def test_the_names_of_the_sdk_are_there():
    """
    What is used of the SDK's insides: a new SDK that renames it fails here, not in production.
    """
    with WorkflowSidecar() as sidecar:
        runtime = sidecar.runtime()
        worker = runtime._WorkflowRuntime__worker
        runtime.start()
        assert worker._response_stream is not None
        assert worker._current_channel is not None
        assert worker.is_worker_ready()
        with worker._sidecar_stub(wait=0) as stub:
            assert callable(stub.RaiseEvent)
        watched = Hosting(runtime)
        assert watched.start(5)
        watched.stop()
        runtime.shutdown()
        assert not worker._async_worker_manager._queue_event_loop.is_closed()
        watched.close()
        assert worker._async_worker_manager._queue_event_loop.is_closed()


@pytest.mark.slow
def test_a_knock_is_heard_by_a_real_sidecar(workflow_sidecar):
    """
    It is harmless where the worker is served, and the sidecar takes it.
    """
    from dapr.ext.workflow import WorkflowRuntime

    from workflows.library.runner import host_and_port

    runtime = WorkflowRuntime(**host_and_port(workflow_sidecar.grpc_endpoint))
    runtime.register_workflow(lambda ctx, _: "done", name="knocked")
    runtime.start()
    watched = Hosting(runtime)
    try:
        assert watched.start(60)
        watched._knock()
        assert watched._ensure(60)
    finally:
        watched.stop()
        runtime.shutdown()
        watched.close()


def test_readiness_without_a_watch():
    """
    A runtime that was started by itself is asked about when somebody wants to know.
    """
    locked, served = hosting(Worker(locked=1)), hosting(Worker(locked=0))
    assert (False, True) == (locked.serves(), served.serves())
    with WorkflowSidecar() as sidecar:
        kit = WorkflowKit(sidecar.runtime(), "memory", port=sidecar.state)
        assert not kit.ready
        kit.runtime.start()
        assert kit.ready
        kit.stop()
        assert not kit.ready


def test_a_worker_starts_once():
    """
    A kit takes a runtime that runs already; once stopped it says that the SDK cannot start it again.
    """
    with WorkflowSidecar() as sidecar:
        kit = WorkflowKit(sidecar.runtime(), "memory", port=sidecar.state)
        kit.runtime.start()
        with kit:
            assert kit.ready
        with pytest.raises(RuntimeError, match="make a new runtime and a new kit"):
            kit.start()


def test_a_kit_without_its_store_may_start_later(runtime):
    """
    The worker was not touched, so the next try finds what this one found.
    """
    kit = WorkflowKit(runtime, "statestore", address="127.0.0.1:1")  # nobody listens there
    for _ in range(2):
        with pytest.raises(SidecarUnavailableError, match=r"within 0\.1 s"):
            kit.start(0.1)
    assert [] == runtime.calls


@pytest.mark.parametrize("store", [None, 5, AsyncStateStore("statestore")])
def test_a_store_that_is_none(runtime, store):
    """
    Refused when the kit is made, with what it takes.
    """
    with pytest.raises(TypeError, match="a StateStore or a Dapr, not"):
        WorkflowKit(runtime, store)
