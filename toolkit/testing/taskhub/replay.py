"""
Running code over a recorded history: every turn must ask for what was recorded.
"""

from __future__ import annotations

from collections.abc import Callable

import dapr.ext.workflow._durabletask.internal.protos as pb

from toolkit.testing.taskhub.events import kind_of
from toolkit.testing.taskhub.history import Step, WorkflowHistory, step_of, steps_of


class NonDeterminismError(AssertionError):
    """
    The code does not do what the recorded history says: an instance under way would fail, or go astray.

    Attributes:
        instance_id: Of the history.
        turn: In which turn, from 1.
        step: The number of the step that differs.
        recorded: What the history has there; ``None`` for nothing.
        found: What the code asks for; ``None`` for nothing.
    """

    def __init__(
        self,
        message: str,
        *,
        instance_id: str = "",
        turn: int = 0,
        step: int = 0,
        recorded: Step | None = None,
        found: Step | None = None,
    ) -> None:
        super().__init__(message)
        self.instance_id, self.turn, self.step = instance_id, turn, step
        self.recorded, self.found = recorded, found


Ask = Callable[[pb.WorkflowRequest], pb.WorkflowResponse]


def replay(history: WorkflowHistory, ask: Ask, *, payloads: bool) -> None:
    """
    Ask the worker, turn by turn, what it would do, and compare.

    The SDK itself looks for less: code that ends early passes its check, and so does a step too many at the end.
    """
    past: list[pb.HistoryEvent] = []
    # Committed events and one that means nothing: the code replays all along, as it would after a restart.
    nothing = pb.HistoryEvent(eventId=-1, executionStalled=pb.ExecutionStalledEvent())
    for number, turn in enumerate(history.turns(), 1):
        past += turn.given
        request = pb.WorkflowRequest(instanceId=history.instance_id, pastEvents=past, newEvents=[nothing])
        steps, error = steps_of(ask(request).actions)
        _compare(history, number, [step_of(made) for made in turn.made], steps, error, payloads=payloads)
        past += [made for made in turn.made if kind_of(made) != "executionCompleted"]


def _compare(
    history: WorkflowHistory,
    turn: int,
    recorded: list[Step],
    found: list[Step],
    error: str,
    *,
    payloads: bool,
) -> None:
    before = {step.number: step for step in recorded}
    after = {step.number: step for step in found}
    for number in sorted({*before, *after}):
        then, now = before.get(number), after.get(number)
        if _same(then, now, payloads=payloads):
            continue
        raise NonDeterminismError(
            _words(history, turn, number, then, now, error),
            instance_id=history.instance_id,
            turn=turn,
            step=number,
            recorded=then,
            found=now,
        )


def _same(then: Step | None, now: Step | None, *, payloads: bool) -> bool:
    if then is None or now is None:
        return False
    return (then.kind, then.name) == (now.kind, now.name) and (not payloads or then.input == now.input)


def _words(
    history: WorkflowHistory, turn: int, number: int, then: Step | None, now: Step | None, error: str
) -> str:
    where = f"workflow {history.workflow!r}, instance {history.instance_id!r}, turn {turn}, step {number}"
    if then is not None and now is not None and str(then) == str(now):
        what = f"{then} was recorded with another input or result than the code gives it now"
    else:
        was = "nothing was recorded" if then is None else f"{then} was recorded"
        what = f"{was}, the code now asks for {'nothing' if now is None else now}"
    if error and now is not None and now.kind == "end as":
        what += f" ({error})"
    return f"{where}: {what}; instances under way cannot go on with this code: guard the change with ctx.is_patched"
