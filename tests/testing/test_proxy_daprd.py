"""
The fault proxy in front of a real sidecar: raw stubs, the Dapr SDK, and workflows with their streams.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from dapr.clients import DaprClient
from dapr.conf import settings
from dapr.ext.workflow import DaprWorkflowClient, WorkflowRuntime
from dapr.proto import api_service_v1, api_v1, common_v1

from toolkit.sidecar import Sidecar
from toolkit.testing.proxy import FaultProxy

STORE = "statestore"


@pytest.fixture
def proxy(workflow_sidecar: Sidecar) -> Iterator[FaultProxy]:
    with FaultProxy(workflow_sidecar.grpc_port) as running:
        yield running


def save(key: str, value: bytes, etag: str = "") -> api_v1.SaveStateRequest:
    item = common_v1.StateItem(key=key, value=value)
    if etag:
        item.etag.value = etag
    return api_v1.SaveStateRequest(store_name=STORE, states=[item])


def test_a_dropped_reply_hides_a_write_that_landed(proxy: FaultProxy) -> None:
    """UNAVAILABLE, the value is there, and the same compare-and-set again is a conflict with oneself."""
    with grpc.insecure_channel(f"127.0.0.1:{proxy.port}") as channel:
        stub = api_service_v1.DaprStub(channel)
        read = api_v1.GetStateRequest(store_name=STORE, key="dropped-reply")
        stub.SaveState(save("dropped-reply", b'"old"'), timeout=10)
        etag = stub.GetState(read, timeout=10).etag
        proxy.next("SaveState", "drop_reply")
        codes: list[Any] = []
        for _ in range(2):
            with pytest.raises(grpc.RpcError) as caught:
                stub.SaveState(save("dropped-reply", b'"new"', etag), timeout=10)
            error: Any = caught.value
            codes.append(error.code())
        assert codes == [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED]
        assert stub.GetState(read, timeout=10).data == b'"new"'
    assert proxy.calls == {"SaveState": 3, "GetState": 2}


def test_the_dapr_sdk_works_through_it(
    workflow_sidecar: Sidecar, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK's own client saves, reads and sees a fault; its calls are counted."""
    monkeypatch.setattr(settings, "DAPR_HTTP_PORT", workflow_sidecar.http_port)
    with DaprClient(address=f"127.0.0.1:{proxy.port}") as client:
        client.save_state(STORE, "sdk", '"value"')
        proxy.next("DeleteState", "drop_request")
        with pytest.raises(grpc.RpcError):
            client.delete_state(STORE, "sdk")
        assert client.get_state(STORE, "sdk").data == b'"value"'
    assert (proxy.calls["SaveState"], dict(proxy.faults)) == (1, {("DeleteState", "drop_request"): 1})


@pytest.fixture
def leaks_its_loop() -> Iterator[None]:
    """The SDK's worker never closes the event loop of its thread: collect it here, where that is no error."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.mark.usefixtures("leaks_its_loop")
def test_workflows_run_through_it(proxy: FaultProxy) -> None:
    """Work items come down a stream and results go up; the calls are counted."""
    runtime = WorkflowRuntime(host="127.0.0.1", port=str(proxy.port))

    def double(context: Any, value: int) -> int:
        return 2 * value

    def flow(context: Any, value: int) -> Any:
        once = yield context.call_activity(double, input=value)
        twice = yield context.call_activity(double, input=once)
        return twice

    runtime.register_activity(double, name="double")
    runtime.register_workflow(flow, name="flow")
    runtime.start()
    try:
        client = DaprWorkflowClient(host="127.0.0.1", port=str(proxy.port))
        name = client.schedule_new_workflow(flow, input=10, instance_id="through-the-proxy")
        state = client.wait_for_workflow_completion(name, timeout_in_seconds=30)
        assert state is not None
        assert state.serialized_output == "40"
    finally:
        runtime.shutdown()
    assert proxy.calls["StartInstance"] == 1
