"""
Lines of a workflow through the SDK's own runtime: none while it is replayed, and one id for each, whatever is run again.
"""

from __future__ import annotations

import json
import logging
from datetime import timedelta

from toolkit.testing import WorkflowSidecar
from workflows import WorkflowKit, call_effect, continue_with, load_checkpoint, workflow_logger


class Lines:
    """
    A logger that keeps its lines; bound fields come with each.
    """

    def __init__(self, kept=None, bound=()):
        self.kept, self.bound = [] if kept is None else kept, dict(bound)

    def bind(self, **fields):
        return Lines(self.kept, {**self.bound, **fields})

    def info(self, event, **fields):
        self.kept.append((event, {**self.bound, **fields}))


def run_logged(sidecar):
    """
    Two rounds of two steps, each with a line of the workflow and one of a helper with a logger of its own.
    """
    lines = Lines()
    kit = WorkflowKit(sidecar.runtime(), "memory", port=sidecar.state)

    @kit.effect(name="noted")
    def noted(tx, number):
        tx.put("noted", {"n": number})

    def step(ctx, number):
        yield from call_effect(ctx, noted, input=number)
        workflow_logger(ctx, lines).info("step", number=number)

    @kit.workflow(name="logged")
    def logged(ctx, _inp):
        cp = yield from load_checkpoint(ctx, "logged", "a", default={"round": 0})
        log = workflow_logger(ctx, lines).bind(round=cp.data["round"])
        for number in range(2):
            yield from step(ctx, number)
            log.info("step")
        if cp.data["round"] == 0:
            yield from continue_with(ctx, cp.next({"round": 1}), every=1)

    with kit:
        sidecar.run("logged", instance_id="w1")
    return [(event, fields["workflow_id"], fields["event_id"]) for event, fields in lines.kept]


def test_each_line_is_written_once():
    """
    Eight lines with eight ids, though each turn replays those before it.
    """
    with WorkflowSidecar(seed=3) as sidecar:
        lines = run_logged(sidecar)
    assert [("step", "w1")] * 8 == [line[:2] for line in lines]
    assert 8 == len(set(lines))


def test_a_turn_run_again_repeats_its_ids():
    """
    The answers of turns are lost: their lines come more than once, and merge into the same eight.
    """
    with WorkflowSidecar(seed=3) as quiet, WorkflowSidecar(seed=3) as lossy:
        expected = run_logged(quiet)
        lossy.faults.rerun_turn("logged", p=0.6)
        found = run_logged(lossy)
    assert len(found) > len(expected)
    assert 8 == len(set(found))


def test_a_logger_of_the_standard_library(caplog):
    """
    It takes no fields of its own; its lines are JSON, and no more than its level lets through.
    """
    given = logging.getLogger("shop")
    with WorkflowSidecar() as sidecar:
        kit = WorkflowKit(sidecar.runtime(), "memory", port=sidecar.state)

        @kit.workflow(name="plain-logged")
        def plain_logged(ctx):
            log = workflow_logger(ctx, given).bind(order=17)
            log.debug("unasked")
            yield ctx.create_timer(timedelta(days=1))
            log.info("slept", days=1)

        with kit, caplog.at_level("INFO", logger="shop"):
            sidecar.run("plain-logged", instance_id="w1")
    (line,) = (json.loads(record.getMessage()) for record in caplog.records if record.name == "shop")
    assert {"event": "slept", "workflow_id": "w1", "order": 17, "days": 1} == {
        name: value for name, value in line.items() if name != "event_id"
    }
