"""
The effects, activities and workflows that the package itself needs on a kit.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from toolkit.core.model import Outcome
from toolkit.errors import RecordedError
from toolkit.transaction import transactional
from workflows._checkpoint_record import LOAD_EFFECT, SAVE_EFFECT, load_record, save_record
from workflows._payload import delivery_of
from workflows._saga_record import NOTE_EFFECT, REFUSED, REPAIR_WORKFLOW, VOID_ACTIVITY, steps_of, take_note
from workflows.errors import CheckpointFencedError
from workflows.saga import undo_noted

if TYPE_CHECKING:
    from toolkit.store import StateStore
    from workflows.kit import WorkflowKit


def register_builtins(kit: WorkflowKit) -> None:
    """
    Put them on a kit; their names begin with ``occ-``.
    """
    kit.effect(name=LOAD_EFFECT, record_errors=(CheckpointFencedError,))(load_record)
    kit.effect(name=SAVE_EFFECT, record_errors=(CheckpointFencedError,))(save_record)
    kit.effect(name=NOTE_EFFECT)(take_note)
    kit.activity(VOID_ACTIVITY, void)
    kit.workflow(name=REPAIR_WORKFLOW)(repair)


def void(store: StateStore, ctx: Any, raw: Any) -> str:
    """
    Close the operation of a step: whether it took effect (``committed``), was refused by its own body, or never will.
    """
    asked: dict[str, str] = delivery_of(ctx, raw).input
    outcome: Outcome = store.void(asked["op"])
    said: str = outcome.value
    if outcome is not Outcome.COMMITTED:
        return said
    try:
        # A repeat runs no body: it gives what was recorded.
        store.transact(transactional(name=asked["effect"])(_never), op_id=asked["op"])
    except RecordedError:
        return REFUSED
    return said


def _never(_tx: Any) -> None:
    raise AssertionError("the operation is recorded as committed")


def repair(ctx: Any, record: dict[str, Any]) -> Generator[Any, Any, list[dict[str, Any]]]:
    """
    Undo the sagas of a workflow that was terminated, newest first; their reports.
    """
    reports: list[dict[str, Any]] = []
    for name, saga in reversed(record["sagas"].items()):
        reports.append((yield from undo_noted(ctx, name, steps_of(saga), record["workflow_id"])))
    return reports
