"""
What is logged when a worker loses its stream, and when it has one again.
"""

from __future__ import annotations

import threading

import pytest
import structlog

from toolkit import StateStore
from toolkit.testing import WorkflowSidecar
from workflows import WorkflowKit, call_effect
from workflows._stream import BACK, LOST, StreamLog

LOST_LINE = {"event": LOST, "log_level": "warning", "sidecar": "127.0.0.1:1"}


def back(seconds):
    return {"event": BACK, "log_level": "warning", "sidecar": "127.0.0.1:1", "seconds": seconds}


@pytest.fixture
def watched():
    """
    A log, the time it is told, and what it wrote.
    """
    now = [0.0]
    with structlog.testing.capture_logs() as lines:
        yield StreamLog("127.0.0.1:1", lambda: now[0]), now, lines
    structlog.reset_defaults()


def test_nothing_is_lost_before_the_first_stream(watched):
    """
    A worker that is still connecting, and one that stays connected, write nothing.
    """
    log, _, lines = watched
    log.look(None, ready=False)
    log.look("first", ready=True)
    log.look("first", ready=True)
    assert [] == lines


def test_a_loss_and_its_end_are_one_line_each(watched):
    """
    However often one looks meanwhile; the second says how long it took.
    """
    log, now, lines = watched
    log.look("first", ready=True)
    for now[0] in (1.0, 2.0, 3.0):
        log.look("first", ready=False)
    now[0] = 4.5
    log.look("second", ready=True)
    log.look("second", ready=True)
    assert [LOST_LINE, back(3.5)] == lines


def test_a_reconnect_between_two_looks_is_seen(watched):
    """
    Another stream than before was opened, so the old one was lost.
    """
    log, _, lines = watched
    log.look("first", ready=True)
    log.look("second", ready=True)
    assert [LOST_LINE, back(0.0)] == lines


def counting_kit(sidecar, name):
    """
    A kit with one workflow, which adds to the counter of this name.
    """
    kit = WorkflowKit(sidecar.runtime(), "memory", port=sidecar.state)

    @kit.effect(name="count")
    def count(tx, amount):
        value = tx.get(name, {"n": 0})
        tx.put(name, {"n": value["n"] + amount})
        return value["n"] + amount

    @kit.workflow(name="counting")
    def counting(ctx, amount):
        return (yield from call_effect(ctx, count, input=amount))

    return kit


def test_the_kit_says_that_its_worker_reconnected():
    """
    The real worker, cut off from its sidecar: both lines come, with the sidecar's address, and work goes on.
    """
    back_again = threading.Event()

    def note(_logger, _method, event):
        if event["event"] in {LOST, BACK}:
            lines.append((event["event"], "127.0.0.1" in event["sidecar"]))
        if event["event"] == BACK:
            back_again.set()
        raise structlog.DropEvent

    lines = []
    structlog.configure(processors=[note])
    try:
        with WorkflowSidecar(seed=7) as sidecar, counting_kit(sidecar, "hits") as kit:
            assert 3 == sidecar.run("counting", input=3, instance_id="w1")
            sidecar.crash()
            assert back_again.wait(60)
            assert kit.ready
            assert 7 == sidecar.run("counting", input=4, instance_id="w2")
        assert [(LOST, True), (BACK, True)] == lines
    finally:
        structlog.reset_defaults()


def test_two_kits_in_one_process():
    """
    Each has its worker, its store and its workflows, though all names are the same; one stopped leaves the other alone.
    """
    with WorkflowSidecar(seed=7) as one, WorkflowSidecar(seed=8) as other:
        with counting_kit(one, "hits") as first:
            with counting_kit(other, "hits") as second:
                assert (3, 5) == (
                    one.run("counting", input=3, instance_id="w1"),
                    other.run("counting", input=5, instance_id="w1"),
                )
                assert (True, True) == (first.ready, second.ready)
            assert 4 == one.run("counting", input=1, instance_id="w2")
        with StateStore("memory", port=one.state) as mine, StateStore("memory", port=other.state) as theirs:
            assert ({"n": 4}, {"n": 5}) == (mine.get("hits"), theirs.get("hits"))
