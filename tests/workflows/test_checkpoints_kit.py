"""
Checkpoints through the SDK's own runtime, on the test kit: runs that continue, are purged, renamed, or superseded.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from toolkit import StateStore
from toolkit.testing import WorkflowSidecar
from workflows import (
    CheckpointFencedError,
    Checkpoints,
    WorkflowKit,
    continue_with,
    load_checkpoint,
    save_checkpoint,
    wait_event,
)

PAGES = 7


def counting(ctx, subject):
    """
    Seven pages, a new run after every third; how often each run loaded is its epoch.
    """
    cp = yield from load_checkpoint(ctx, "pages", subject, default={"page": 0})
    while cp.data["page"] < PAGES:
        cp = cp.next({"page": cp.data["page"] + 1})
        yield from continue_with(ctx, cp, every=3)
    return [cp.data["page"], cp.seq, cp.epoch]


def one_page_at_a_word(ctx, subject):
    """
    A page for each event; it says when it was superseded.
    """
    cp = yield from load_checkpoint(ctx, "pages", subject, default={"page": 0})
    try:
        while True:
            word = yield from wait_event(ctx, "go")
            if word == "end":
                return cp.data["page"]
            cp = cp.next({"page": cp.data["page"] + 1})
            yield from continue_with(ctx, cp, every=1)
    except CheckpointFencedError as fenced:
        return str(fenced)


@pytest.fixture
def sidecar():
    with WorkflowSidecar(seed=11) as sidecar:
        yield sidecar


@pytest.fixture
def kit(sidecar):
    kit = WorkflowKit(sidecar.runtime(), "memory", port=sidecar.state)
    kit.workflow(name="counting")(counting)
    kit.workflow(name="renamed")(counting)
    kit.workflow(name="words")(one_page_at_a_word)
    with kit:
        yield kit


@pytest.fixture
def checkpoints(sidecar):
    with StateStore("memory", port=sidecar.state) as store:
        yield Checkpoints(store)


def test_it_survives_continue_as_new_purge_and_rename(sidecar, kit, checkpoints):
    """
    Three runs of one instance do it; the same id after a purge, and another workflow under another id, find it done.
    """
    assert [PAGES, 7, 3] == sidecar.run("counting", input="a", instance_id="w1")
    sidecar.client().purge_workflow("w1")
    assert [PAGES, 7, 4] == sidecar.run("counting", input="a", instance_id="w1")
    assert [PAGES, 7, 5] == sidecar.run("renamed", input="a", instance_id="w2")
    assert "w2" == checkpoints.get("pages", "a")["owner"]


def test_a_terminated_run_is_succeeded(sidecar, kit, checkpoints):
    """
    Terminated in the middle: another instance goes on where it was.
    """
    client = sidecar.client()
    client.schedule_new_workflow("words", input="b", instance_id="w1")
    client.raise_workflow_event("w1", "go", data="on")
    client.raise_workflow_event("w1", "go", data="on")
    sidecar.settle()
    client.terminate_workflow("w1")
    sidecar.settle()
    assert {"page": 2} == checkpoints.get("pages", "b")["data"]
    assert PAGES == sidecar.run("counting", input="b", instance_id="w2")[0]


def test_a_superseded_run_ends_and_its_successor_goes_on(sidecar, kit, checkpoints):
    """
    The older instance, awake and in a later generation, does not take the checkpoint back.
    """
    client = sidecar.client()
    client.schedule_new_workflow("words", input="c", instance_id="old")
    client.raise_workflow_event("old", "go", data="on")
    sidecar.settle()
    client.schedule_new_workflow("words", input="c", instance_id="new")
    sidecar.settle()
    client.raise_workflow_event("old", "go", data="on")
    assert "taken over by workflow 'new'" in sidecar.result("old")
    client.raise_workflow_event("new", "go", data="on")
    client.raise_workflow_event("new", "go", data="end")
    assert 2 == sidecar.result("new")
    record = checkpoints.get("pages", "c")
    assert ({"page": 2}, "new") == (record["data"], record["owner"])


def test_a_late_duplicate_of_a_save_changes_nothing(sidecar, checkpoints):
    """
    A save of the first run is delivered again when the successor has saved.
    """
    kit = WorkflowKit(sidecar.runtime(), "memory", port=sidecar.state)

    @kit.workflow(name="once")
    def once(ctx, page):
        cp = yield from load_checkpoint(ctx, "pages", "d", default={"page": 0})
        info = yield from save_checkpoint(ctx, cp.next({"page": page}))
        return [info.seq, info.epoch]

    sidecar.faults.duplicate("occ-checkpoint-save", times=1, after=timedelta(hours=1))
    with kit:
        assert [1, 1] == sidecar.run("once", input=10, instance_id="w1")
        assert [2, 2] == sidecar.run("once", input=20, instance_id="w2")
        sidecar.advance(timedelta(hours=2))
    assert {"duplicate": 1} == dict(sidecar.faults.counts)
    record = checkpoints.get("pages", "d")
    assert ({"page": 20}, 2) == (record["data"], record["seq"])


def test_a_workflow_of_the_sdk_alone():
    """
    Registered on the runtime, beside a kit without workflows, it loads and saves too.
    """
    with WorkflowSidecar() as sidecar:
        kit = WorkflowKit(sidecar.runtime(), "memory", port=sidecar.state)

        def plain(ctx, subject):
            cp = yield from load_checkpoint(ctx, "plain", subject, default=1)
            yield from save_checkpoint(ctx, cp.next(2))
            return (yield from load_checkpoint(ctx, "plain", subject)).data

        kit.runtime.register_workflow(plain)
        with kit:
            assert 2 == sidecar.run("plain", input="a")
