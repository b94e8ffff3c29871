"""
What keeps the test kit honest: the same workflows on it and on a real daprd end alike, with the same histories.
"""

from __future__ import annotations

import contextlib
import gc
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.workflows import scenarios
from toolkit import StateStore
from toolkit.testing import WorkflowHistory, WorkflowSidecar
from workflows import WorkflowKit, raise_event
from workflows._hosted import when_hosted
from workflows.library.runner import host_and_port

WAIT = 60


@dataclass
class Place:
    """
    An engine with the workflows on it.
    """

    client: Any
    store: StateStore
    fetch: Any
    prefix: str

    def start(self, name: str, input: Any = None) -> str:
        """
        Start one under an id of its own.
        """
        wanted = f"{name}-{self.prefix}"
        return when_hosted(lambda: self.client.schedule_new_workflow(name, input=input, instance_id=wanted))

    def end(self, instance_id: str) -> Any:
        return self.client.wait_for_workflow_completion(instance_id, timeout_in_seconds=WAIT)

    def run(self, name: str, input: Any = None) -> tuple[str, str | None]:
        state = self.end(self.start(name, input))
        return state.runtime_status.name, state.serialized_output


@contextlib.contextmanager
def on_kit() -> Iterator[Place]:
    with WorkflowSidecar() as sidecar:
        runtime = sidecar.runtime()
        kit = WorkflowKit(runtime, "memory", port=sidecar.state)
        scenarios.register(kit, runtime)
        with kit, StateStore("memory", port=sidecar.state) as store:
            yield Place(sidecar.client(), store, sidecar.history, uuid.uuid4().hex[:8])


@contextlib.contextmanager
def on_daprd(sidecar: Any) -> Iterator[Place]:
    from dapr.ext.workflow import DaprWorkflowClient, WorkflowRuntime

    address = sidecar.grpc_endpoint
    where = host_and_port(address)
    runtime = WorkflowRuntime(**where)
    with (
        StateStore("statestore", address=address) as store,
        contextlib.closing(DaprWorkflowClient(**where)) as client,
    ):
        kit = WorkflowKit(runtime, store)
        scenarios.register(kit, runtime)
        with kit:
            yield Place(
                client, store, lambda found: WorkflowHistory.fetch(address, found), uuid.uuid4().hex[:8]
            )


@pytest.fixture(scope="module")
def daprd_place(workflow_sidecar) -> Iterator[Place]:
    with on_daprd(workflow_sidecar) as place:
        yield place
    let_loops_go()


@pytest.fixture(scope="module")
def kit_place() -> Iterator[Place]:
    with on_kit() as place:
        yield place
    let_loops_go()


def let_loops_go() -> None:
    """
    The SDK never closes the loop of its worker.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(params=["kit", "daprd"])
def place(request) -> Place:
    return request.getfixturevalue(f"{request.param}_place")


def test_effects(place):
    """
    Called one by one, as tasks, and with a recorded error.
    """
    key = f"key-{place.prefix}"
    ended = ("COMPLETED", '[5, 8, "RefusedError", "not for you"]')
    assert ended == place.run("same-effects", key)
    assert {"n": 8} == place.store.get(key)


def test_timers(place):
    """
    A timer passes, and one that lost a race does not hold the workflow.
    """
    assert ("COMPLETED", "[true, 8]") == place.run("same-timers")


def test_events(place):
    """
    Events that wait for the workflow, one that is falsy, and one that never comes.
    """
    found = place.start("same-events")
    raise_event(place.client, found, "go", 0)
    place.client.raise_workflow_event(found, "raw", data={"a": 1})
    state = place.end(found)
    assert '[0, {"a": 1}]' == state.serialized_output
    assert "waiting" == place.client.get_workflow_state(found).serialized_custom_status


def test_children(place):
    """
    A child's result, and a child's failure.
    """
    assert ("COMPLETED", '[42, "RuntimeError"]') == place.run("same-parent", 21)


def test_generations(place):
    """
    Continue-as-new keeps an event that came early.
    """
    found = place.start("same-generations", 3)
    place.client.raise_workflow_event(found, "kept", data="still here")
    assert '"still here"' == place.end(found).serialized_output


def test_failures(place):
    """
    An activity's error ends the engine's retries, and the workflow that does not catch it.
    """
    status, output = place.run("same-retries")
    assert ("COMPLETED", "ValueError") == (status, output.split('"')[1])
    state = place.end(place.start("same-failure"))
    assert ("FAILED", True) == (state.runtime_status.name, "always" in state.failure_details.message)


def test_suspended(place):
    """
    A suspended workflow keeps its events until it is resumed.
    """
    found = place.start("same-sleeper")
    place.client.pause_workflow(found)
    assert "SUSPENDED" == place.client.get_workflow_state(found).runtime_status.name
    place.client.raise_workflow_event(found, "wake", data="up")
    place.client.resume_workflow(found)
    assert '"up"' == place.end(found).serialized_output


def test_terminated_and_purged(place):
    """
    Terminating a parent ends its child; what is purged is gone, what is not over is not purged.
    """
    found = place.start("same-waiter")
    place.client.wait_for_workflow_start(f"{found}-child", timeout_in_seconds=WAIT)
    with pytest.raises(Exception, match="not yet completed"):
        place.client.purge_workflow(found)
    place.client.terminate_workflow(found, output="enough")
    state = place.end(found)
    assert ("TERMINATED", '"enough"') == (state.runtime_status.name, state.serialized_output)
    assert "TERMINATED" == place.end(f"{found}-child").runtime_status.name
    place.client.purge_workflow(found)
    assert place.client.get_workflow_state(found) is None


def test_one_id_one_instance(place):
    """
    An id is taken while its instance is not over, and free afterwards.
    """
    found = place.start("same-sleeper")
    with pytest.raises(Exception, match="already exists") as refused:
        place.start("same-sleeper")
    assert "ALREADY_EXISTS" == refused.value.code().name
    place.client.raise_workflow_event(found, "wake", data=1)
    place.end(found)
    assert found == place.start("same-sleeper")
    place.client.raise_workflow_event(found, "wake", data=2)
    assert "2" == place.end(found).serialized_output


def test_unknown_instance(place):
    """
    Nothing is known of an instance that was never started.
    """
    client = place.client
    assert client.get_workflow_state("nobody") is None
    for call in (client.terminate_workflow, client.pause_workflow, client.purge_workflow):
        with pytest.raises(Exception, match="no such instance exists"):
            call("nobody")
    with pytest.raises(Exception, match="'nobody' not found"):
        client.get_workflow_history("nobody")
    # It may come yet.
    with pytest.raises(TimeoutError):
        client.wait_for_workflow_start("nobody", timeout_in_seconds=1)


def test_one_that_is_over(place):
    """
    What is sent to an instance that is over is dropped without an error.
    """
    found = place.start("same-child", 1)
    place.end(found)
    place.client.raise_workflow_event(found, "late")
    place.client.pause_workflow(found)
    place.client.terminate_workflow(found)
    assert "COMPLETED" == place.client.get_workflow_state(found).runtime_status.name


# What a worker looks at depends on when results arrive: where they race, only these are the same everywhere.
ALIKE = {
    "same-effects": (
        "same-key",
        ["activity 'same-add'"] * 5 + ["activity 'same-refuse'", "end as 'COMPLETED'"],
    ),
    "same-retries": (
        None,
        ["activity 'same-fail'", "timer"] * 2 + ["activity 'same-fail'", "end as 'COMPLETED'"],
    ),
    "same-parent": (1, ["child workflow 'same-child'"] * 2 + ["end as 'COMPLETED'"]),
}


@pytest.mark.parametrize("name", ALIKE)
def test_histories_are_alike(place, name, tmp_path):
    """
    The steps in the history are the same on both, it survives a file, and the code replays over it.
    """
    given, steps = ALIKE[name]
    found = place.start(name, given)
    assert "COMPLETED" == place.end(found).runtime_status.name
    history = place.fetch(found)
    assert steps == [str(step) for step in history.steps]
    history.save(tmp_path / "history.json")
    loaded = WorkflowHistory.load(tmp_path / "history.json")
    assert history == loaded
    with WorkflowSidecar() as sidecar:
        runtime = sidecar.runtime()
        kit = WorkflowKit(runtime, "memory", port=sidecar.state)
        scenarios.register(kit, runtime)
        with kit:
            sidecar.replay(loaded, payloads=True)
    let_loops_go()


def test_event_kinds_are_alike(kit_place, daprd_place):
    """
    A history made here has the very events of one made by daprd, in their order.
    """
    kinds = []
    for place in (kit_place, daprd_place):
        found = place.start("same-child", 3)
        place.end(found)
        kinds.append(place.fetch(found).kinds)
    assert kinds[1] == kinds[0]
