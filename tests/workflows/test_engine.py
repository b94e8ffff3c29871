"""
The kit through the real engine, and the command.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from toolkit import AlreadyExistsError, Dapr, SidecarUnavailableError, StateStore
from toolkit.sidecar import free_ports
from toolkit.testing import MemoryStore
from workflows import (
    EffectTimeoutError,
    WorkflowKit,
    call_effect,
    effect_task,
    raise_event,
    start_once,
    wait_event,
)
from workflows.library.runner import host_and_port, output_of

ROOT = Path(__file__).parents[2]


def register(kit):
    """
    A workflow that calls effects in every way.
    """

    @kit.effect(name="engine-add")
    def add(tx, amount):
        value = tx.get("engine", {"n": 0})
        tx.put("engine", {"n": value["n"] + amount})
        return value["n"] + amount

    @kit.effect(name="engine-grow")
    async def grow(tx, amount):
        value = await tx.get("engine", {"n": 0})
        tx.put("engine", {"n": value["n"] + amount})

    @kit.workflow(name="engine-all")
    def everything(ctx, amount):
        from dapr.ext.workflow import when_all

        first = yield from call_effect(ctx, add, input=amount, timeout=timedelta(seconds=20))
        yield from call_effect(ctx, grow, input=amount)
        yield when_all([effect_task(ctx, add, input=number) for number in range(4)])
        last = yield ctx.call_activity(add, input=100)
        answer = yield from wait_event(ctx, "go")
        try:
            yield from call_effect(ctx, "engine-nobody-has-this", timeout=timedelta(milliseconds=1))
        except EffectTimeoutError as late:
            return [first, last, answer, late.op.startswith(ctx.instance_id)]

    return everything


def test_every_way_to_call_an_effect(workflow_sidecar, client_at):
    """
    Called, as a task, by the SDK's own call, sync and async, each is applied once; a falsy event arrives; time runs out.
    """
    from dapr.ext.workflow import WorkflowRuntime

    address = workflow_sidecar.grpc_endpoint
    client = client_at(address)
    with StateStore("statestore", address=address) as store:
        kit = WorkflowKit(WorkflowRuntime(**host_and_port(address)), store)
        everything = register(kit)
        with kit:
            assert kit.ready
            assert start_once(client, everything, key="engine-1", input=10, store=store).started
            raise_event(client, "engine-1", "go", 0)
            assert [10, 126, 0, True] == output_of(client, "engine-1", 30)
            again = start_once(client, everything, key="engine-1", input=10, store=store)
            assert (False, "COMPLETED") == (again.started, again.state.runtime_status.name)
            with pytest.raises(AlreadyExistsError, match="engine-1"):
                start_once(client, everything, key="engine-1", input=10, store=store, on_existing="raise")
        assert {"n": 126} == store.get("engine")


def test_start_is_bounded():
    """
    Without a sidecar the start ends with an error that says what to do, and the process could go on.
    """
    from dapr.ext.workflow import WorkflowRuntime

    (port,) = free_ports(1)
    runtime = WorkflowRuntime(host="127.0.0.1", port=str(port))
    kit = WorkflowKit(runtime, "memory", port=MemoryStore())
    with pytest.raises(SidecarUnavailableError, match="occ run --workflows"):
        kit.start(timeout=0.5)


def test_a_dapr_without_a_state_store_is_refused(runtime):
    """
    A kit needs to know where effects go.
    """
    with pytest.raises(TypeError, match="state_store="):
        WorkflowKit(runtime, Dapr(address="127.0.0.1:1"))


def occ(sidecar, *arguments):
    env = {name: value for name, value in os.environ.items() if not name.startswith("DAPR_")}
    return subprocess.run(
        [sys.executable, "-c", "from toolkit.cli import main; main()", "workflow", *arguments],
        env={**env, **({} if sidecar is None else sidecar.environment), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_import_once_changes_nothing_the_second_time(workflow_sidecar, tmp_path):
    """
    The command imports the rows of a file, and a second time finds all of them.
    """
    rows = tmp_path / "rows.csv"
    rows.write_text("id,name\n" + "".join(f"r{number},name {number}\n" for number in range(45)))
    found = []
    for _ in range(2):
        ran = occ(workflow_sidecar, "run", "import_once", "--input", str(rows), "--json")
        assert 0 == ran.returncode, ran.stderr
        found.append(json.loads(ran.stdout))
    report = {"ok": True, "rows": 45, "differing": 0, "missing": []}
    assert [{**report, "created": 45, "present": 0}, {**report, "created": 0, "present": 45}] == found


def test_wrong_input_is_a_usage_error(tmp_path):
    """
    A file that is no book, and a name that is no workflow, end with code 2 and one line.
    """
    wrong = tmp_path / "wrong.json"
    wrong.write_text("[]")
    for arguments in (("run", "transfer", "--input", str(wrong)), ("run", "nothing")):
        ran = occ(None, *arguments)
        assert (2, 1, "") == (ran.returncode, len(ran.stderr.splitlines()), ran.stdout)
