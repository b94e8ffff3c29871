"""
What can go wrong with effects, beside what can go wrong with a store; all are ``toolkit.StateError``.
"""

from __future__ import annotations

from typing import Any

from toolkit.errors import OperationVoidedError, StateError


class EffectVoidedError(OperationVoidedError):
    """
    The operation was closed by ``store.void`` before the effect was applied: nothing was written, nothing ever will be.
    """


class EffectTimeoutError(StateError):
    """
    ``call_effect(timeout=…)`` ran out; the effect may still be applied by a delivery under way.

    Find out with ``store.outcome(error.op)``, or make sure it never lands with ``store.void(error.op)``.

    Attributes:
        op: The operation id.
    """

    def __init__(self, message: str, *, op: str = "") -> None:
        super().__init__(message)
        self.op = op


class SagaAbortedError(StateError):
    """
    A step of a saga failed before its pivot; what had taken effect was undone.

    Attributes:
        report: What became of every step; see ``Saga.report``.
    """

    def __init__(self, message: str, *, report: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.report = report or {}


class CheckpointFencedError(StateError):
    """
    Another run has loaded the checkpoint since this one did; this run is superseded and saved nothing.
    """


class CheckpointVersionError(StateError, ValueError):
    """
    The checkpoint has a version that this code cannot read; it was left as it is, to the run that has it.
    """


class ContinuedAsNew(BaseException):
    """
    Ends a run that has continued as new; ``WorkflowKit`` catches it.
    """
