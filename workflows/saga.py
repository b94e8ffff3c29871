"""
Sagas: steps that are undone, newest first, when a later one fails.

Theory of operation. Every step is an effect under an operation id of its own, made before the step runs and noted in a
record in the store together with the undo. To undo a step its id is *voided* first: either the step has committed, and
its undo runs, or no attempt at it ever can, also not a late duplicate of its activity, and nothing is to be undone. So
nobody has to know whether a step that failed, timed out or lost its worker took effect. It is the step's own activity
that voids, so that it happens in the store the step works on. The same goes for an undo, and for a step behind the
pivot, before an operator's word replaces it: what is still under way then cannot land beside it.
"""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from toolkit.core.model import Outcome
from toolkit.errors import StateError
from workflows._payload import plain, void_envelope
from workflows._resolutions import ACTIONS, NEEDS_ATTENTION, RESOLVE_EVENT, Resolution, understood
from workflows._saga_record import BY_HAND, NOTE_EFFECT, REFUSED, Note, StepNote
from workflows.effects import Escalation, attempts, call_effect, new_op
from workflows.errors import EffectVoidedError, SagaAbortedError
from workflows.events import wait_event
from workflows.ports import Context

if TYPE_CHECKING:
    from workflows.bodies import Effect

USUAL: Final = Escalation()
# Compensation must not give up because a store is busy: what was taken has to be given back.
WITHOUT_LIMIT: Final = Escalation(attempts=None)
COMMITTED: Final = Outcome.COMMITTED.value
_SAME: Final = object()


class Saga:
    """
    Steps of one workflow that stand or fall together.

    In a workflow::

        saga = Saga(ctx, "order")
        try:
            yield from saga.step(reserve, input=order, undo=release)
            yield from saga.step(charge, input=order, undo=refund)
            yield from saga.step(ship, input=order, pivot=True)
            yield from saga.step(thank, input=order)
        except SagaAbortedError as aborted:
            return aborted.report

    A step that fails for good undoes itself and all before it, newest first, and raises ``SagaAbortedError``. Once a
    *pivot* has committed there is no way back: later steps are tried without limit. Where an undo, or a step behind the
    pivot, fails for a reason that trying again does not cure, the workflow sets its custom status to
    ``saga: needs-attention`` and waits until an operator says how to go on: ``resolve_saga``.

    A terminated workflow undoes nothing; ``resume_saga`` does it from the record.

    Args:
        ctx: The workflow context.
        name: Of the saga; a workflow with several gives each its own.
        policy: When a step is tried again, and when it has failed.
        undo_policy: The same for an undo; without limit unless said otherwise.
    """

    def __init__(
        self,
        ctx: Context,
        name: str = "saga",
        *,
        policy: Escalation = USUAL,
        undo_policy: Escalation = WITHOUT_LIMIT,
    ) -> None:
        self.ctx, self.name, self._workflow_id = ctx, name, ctx.instance_id
        self.policy, self.undo_policy = policy, undo_policy
        self._steps: list[StepNote] = []
        self._fates: list[str] = []
        self._state, self._reason = "running", ""
        self._past_pivot = False
        self._calls: list[dict[str, Any]] = []

    def __repr__(self) -> str:
        return f"<Saga {self.name!r} of {self._workflow_id!r}, {self._state}, {len(self._steps)} steps>"

    @property
    def report(self) -> dict[str, Any]:
        """
        What became of every step, as JSON: ``done``, ``undone``, ``refused`` (by its own body), ``voided`` (it never took
        effect), ``kept`` (it took effect and has no undo), ``skipped`` or ``settled`` (by an operator), ``open`` (not known
        yet). ``attention`` lists what an operator was asked and said.
        """
        steps = [
            {"effect": step.effect, "op": step.op, "undo": step.undo, "fate": fate}
            for step, fate in zip(self._steps, self._fates, strict=True)
        ]
        return {
            "saga": self.name,
            "workflow_id": self._workflow_id,
            "state": self._state,
            "reason": self._reason,
            "steps": steps,
            "attention": [dict(call) for call in self._calls],
        }

    def step(
        self,
        effect: Effect[Any] | str,
        *,
        input: Any = None,
        undo: Effect[Any] | str | None = None,
        undo_input: Any = _SAME,
        pivot: bool = False,
        op: str | None = None,
        timeout: timedelta | None = None,
    ) -> Generator[Any, Any, Any]:
        """
        Apply an effect exactly once, and remember how to undo it before it runs.

        Args:
            effect: What ``@kit.effect`` returned, or its name.
            input: Its input.
            undo: The effect that takes it back; without one it stays.
            undo_input: The input of the undo; by default that of the step.
            pivot: Once this step has committed the saga goes forward only.
            op: The operation id, which names this step for good: a saga that was undone cannot run again under the same
                ids. By default a new one.
            timeout: For the step as a whole; when it runs out the step has failed.

        Returns:
            The effect's result; ``None``, or what the operator gave, when one settled a step behind the pivot.

        Raises:
            SagaAbortedError: The step failed and everything was undone.
            TypeError: An undo was given for the pivot or a step behind it.
        """
        if self._state != "running":
            raise RuntimeError(f"{self!r} is over: it takes no more steps")
        if undo is not None and (pivot or self._past_pivot):
            raise TypeError(f"{self!r}: the pivot and the steps behind it are never undone; leave undo= out")
        note = StepNote(
            effect=_name(effect),
            op=op or new_op(self.ctx),
            undo=None if undo is None else _name(undo),
            undo_input=plain(input if undo_input is _SAME else undo_input),
            pivot=pivot,
        )
        yield from self._note(note)
        self._steps.append(note)
        self._fates.append("open")
        if self._past_pivot:
            return (yield from self._forward(note, input, timeout))
        try:
            result = yield from call_effect(
                self.ctx, note.effect, input=input, op=note.op, policy=self.policy, timeout=timeout
            )
        except Exception as error:
            if not _is_answer(error):
                raise
            if not pivot or (yield from self._closed(note)) != COMMITTED:
                yield from self._abort(_reason(note.effect, error), error)
            # The pivot took effect after all; its first result is recorded, and a repeat of the op returns it.
            self._past_pivot = True
            return (yield from self._forward(note, input, None))
        self._fates[-1] = "done"
        self._past_pivot = self._past_pivot or pivot
        return result

    def abort(self, reason: str) -> Generator[Any, Any, None]:
        """
        Undo every step for a reason of the workflow's own.

        Raises:
            SagaAbortedError: Always, once all is undone.
            RuntimeError: A pivot has committed: there is no way back. Or the saga is over.
        """
        if self._past_pivot:
            raise RuntimeError(f"{self!r}: its pivot has committed, it can only go forward")
        if self._state != "running":
            raise RuntimeError(f"{self!r} is over: there is nothing to undo")
        yield from self._abort(reason, None)

    def complete(self) -> Generator[Any, Any, None]:
        """
        Say that all is done: nothing is undone from here on, and the record in the store goes.
        """
        self._state = "completed"
        yield from self._note(None)

    # -- the ways on and back --------------------------------------------------------------------------------------

    def _forward(self, note: StepNote, value: Any, timeout: timedelta | None) -> Generator[Any, Any, Any]:
        at, number = len(self._steps) - 1, 1
        while True:
            op = _numbered(note.op, number)
            try:
                result = yield from call_effect(
                    self.ctx, note.effect, input=value, op=op, policy=WITHOUT_LIMIT, timeout=timeout
                )
            except Exception as error:
                if not _is_answer(error):
                    raise
                said = yield from self._attention(note.effect, _reason(note.effect, error))
                ended = yield from self._ended(note.effect, op)
                if ended == COMMITTED:
                    continue  # a repeat gives the recorded result
                if said.action != "retry":
                    self._fates[at] = ACTIONS[said.action]
                    return said.result
                number += bool(ended)
            else:
                self._fates[at] = "done"
                return result

    def _abort(self, reason: str, cause: Exception | None) -> Generator[Any, Any, None]:
        self._state, self._reason = "undoing", reason
        for at in reversed(range(len(self._steps))):
            if self._fates[at] in BY_HAND:
                continue
            self._fates[at] = yield from self._undo(self._steps[at], committed=self._fates[at] == "done")
            if self._fates[at] in BY_HAND:
                yield from self._note(None)  # what was settled by hand must not be undone by a repair as well
        self._state = "aborted"
        yield from self._note(None)
        raise SagaAbortedError(f"saga {self.name!r} was undone: {reason}", report=self.report) from cause

    def _undo(self, note: StepNote, *, committed: bool) -> Generator[Any, Any, str]:
        number = 1
        while True:
            op = _numbered(f"{note.op}:undo", number)
            try:
                found = yield from self._closed(note)
                # An answer that came stays true longer than the store remembers the operation.
                if found != COMMITTED and not committed:
                    return REFUSED if found == REFUSED else "voided"
                if note.undo is None:
                    return "kept"
                yield from call_effect(
                    self.ctx, note.undo, input=note.undo_input, op=op, policy=self.undo_policy
                )
            except EffectVoidedError:
                number += 1  # closed before an operator had it tried again
            except Exception as error:
                if not _is_answer(error):
                    raise
                said = yield from self._attention(note.effect, f"undo of {_reason(note.effect, error)}")
                ended = "" if note.undo is None else (yield from self._ended(note.undo, op))
                if ended == COMMITTED:
                    return "undone"
                if said.action != "retry":
                    return ACTIONS[said.action]
                number += bool(ended)
            else:
                return "undone"

    def _closed(self, note: StepNote) -> Generator[Any, Any, str]:
        """
        Close the step's operation: whether it took effect; if not, it never will.
        """
        return (yield from self._close(note.effect, note.op))

    def _close(self, effect: str, op: str) -> Generator[Any, Any, str]:
        found: str = yield from attempts(
            self.ctx, effect, op, lambda attempt: void_envelope(op, attempt), self.undo_policy
        )
        return found

    def _ended(self, effect: str, op: str) -> Generator[Any, Any, str]:
        """
        Close an operation an operator was asked about, as far as its activity can be run at all; else say nothing.
        """
        try:
            return (yield from self._close(effect, op))
        except Exception as error:
            if not _is_answer(error):
                raise
            return ""

    def _attention(self, step: str, reason: str) -> Generator[Any, Any, Resolution]:
        """
        Wait until an operator says how to go on.
        """
        before, self._state, self._reason = (self._state, self._reason), "needs-attention", reason
        call: dict[str, Any] = {"step": step, "reason": reason, "action": None}
        self._calls.append(call)
        ctx: Any = self.ctx
        ctx.set_custom_status(msgspec.json.encode({"status": NEEDS_ATTENTION, **self.report}).decode())
        said = None
        while said is None:
            said = understood((yield from wait_event(self.ctx, RESOLVE_EVENT)), step)
        ctx.set_custom_status("")
        self._state, self._reason = before
        call["action"] = said.action
        return said

    def _note(self, step: StepNote | None) -> Generator[Any, Any, None]:
        report = self.report if step is None else None
        note = Note(self._workflow_id, self.name, len(self._steps), self._state, step, report)
        yield from call_effect(self.ctx, NOTE_EFFECT, input=note, policy=WITHOUT_LIMIT)


def undo_noted(
    ctx: Context, name: str, steps: list[StepNote], workflow_id: str
) -> Generator[Any, Any, dict[str, Any]]:
    """
    The saga of a workflow that is gone, undone from its record; the report of it.
    """
    saga = Saga(ctx, name)
    saga._workflow_id = workflow_id  # noqa: SLF001  one concept
    saga._steps, saga._fates = steps, [step.fate or "open" for step in steps]  # noqa: SLF001
    for pivot in [step for step in steps if step.pivot]:
        if (yield from saga._closed(pivot)) == COMMITTED:  # noqa: SLF001
            saga._state, saga._reason = "past-pivot", f"the pivot {pivot.effect!r} has committed"  # noqa: SLF001
            return saga.report
    try:
        yield from saga._abort("its workflow was terminated", None)  # noqa: SLF001
    except SagaAbortedError as aborted:
        return aborted.report
    raise AssertionError("an abort always raises")


def _name(effect: Effect[Any] | str) -> str:
    return effect if isinstance(effect, str) else effect.name


def _is_answer(error: Exception) -> bool:
    """
    Whether an effect said so, as opposed to a bug in the workflow.
    """
    return isinstance(error, StateError) or hasattr(error, "details")


def _numbered(op: str, number: int) -> str:
    return op if number == 1 else f"{op}:{number}"


def _reason(effect: str, error: Exception) -> str:
    details: Any = getattr(error, "details", None)
    text = str(error) if details is None else f"{details.error_type}: {details.message}"
    return f"step {effect!r}: {text}"
