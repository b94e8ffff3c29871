"""
``call_effect`` driven by hand: one op through all attempts, and the same waits in every replay.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from toolkit import RecordedError
from workflows import EffectVoidedError, Escalation, call_effect, wait_event, workflow_logger
from workflows._payload import event_payload


class TaskFailedError(Exception):
    def __init__(self, kind: str, message: str = "") -> None:
        super().__init__(message)
        self.details = SimpleNamespace(error_type=kind, message=message)


class Context:
    """
    A workflow context whose tasks are what was asked for.
    """

    instance_id = "w1"
    current_utc_datetime = datetime(2026, 1, 1, tzinfo=UTC)
    is_replaying = False

    def new_guid(self):
        return "guid"

    def call_activity(self, activity, *, input=None, retry_policy=None):
        return activity, input

    def create_timer(self, fire_at):
        return fire_at

    def wait_for_external_event(self, name, *, timeout=None):
        return name


def run(steps, answers):
    """
    Feed a generator its answers; what it asked for, and what it returned.
    """
    asked = [next(steps)]
    for answer in answers:
        try:
            asked.append(steps.throw(answer) if isinstance(answer, Exception) else steps.send(answer))
        except StopIteration as end:
            return asked, end.value
    raise AssertionError(f"it goes on: {asked}")


def test_conflicts_escalate_under_one_op():
    """
    A conflict is tried again after a timer, with the same op and the attempt counted; replayed, the waits are the same.
    """
    lost = TaskFailedError("AttemptsExhaustedError")
    answers = [lost, None, lost, None, "done"]
    asked, result = run(call_effect(Context(), "add", input=5), answers)
    again, _ = run(call_effect(Context(), "add", input=5), answers)
    assert ("done", asked) == (result, again)
    sent = [step[1] for step in asked if isinstance(step, tuple)]
    assert [("w1:guid", 1, 5), ("w1:guid", 2, 5), ("w1:guid", 3, 5)] == [
        (one["op"], one["attempt"], one["input"]) for one in sent
    ]
    waits = [step for step in asked if isinstance(step, timedelta)]
    assert timedelta(milliseconds=125) <= waits[0] <= timedelta(milliseconds=250) <= waits[1]
    assert waits[1] <= timedelta(milliseconds=500)


def test_last_attempt_fails_with_its_error():
    """
    After the last attempt the engine's error comes through.
    """
    lost = TaskFailedError("StoreUnavailableError", "no answer")
    with pytest.raises(TaskFailedError, match="no answer"):
        run(call_effect(Context(), "add", policy=Escalation(attempts=2)), [lost, None, lost])


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (
            TaskFailedError("RecordedError", "RefusedError: no: money"),
            RecordedError,
            "RefusedError: no: money",
        ),
        (TaskFailedError("EffectVoidedError", "closed"), EffectVoidedError, "closed"),
        (TaskFailedError("ZeroDivisionError", "division"), TaskFailedError, "division"),
    ],
)
def test_final_errors_are_not_tried_again(answer, kind, message):
    """
    An outcome comes as what it is, at once.
    """
    with pytest.raises(kind) as caught:
        run(call_effect(Context(), "add"), [answer])
    assert message == str(caught.value)


@pytest.mark.parametrize("data", [0, False, "", [], None])
def test_falsy_events_survive(data):
    """
    What was sent is what arrives.
    """
    assert data == run(wait_event(Context(), "e"), [event_payload(data)])[1]


def test_logger_is_quiet_in_replay_and_counts_on():
    """
    A replayed line is not written, and the line after it has the id it had in the first run.
    """

    class Lines(list):
        def info(self, event, **fields):
            self.append((event, fields["event_id"]))

    first, second = Lines(), Lines()
    ctx = Context()
    log = workflow_logger(ctx, first)
    log.info("one")
    log.info("two")
    ctx.is_replaying = True
    log = workflow_logger(ctx, second)
    log.info("one")
    ctx.is_replaying = False
    log.info("two")
    assert first[1:] == second
    assert 2 == len(set(first))
