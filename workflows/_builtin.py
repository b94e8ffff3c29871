"""
The effects, activities and workflows that the package itself needs on a kit.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from workflows._checkpoint_record import LOAD_EFFECT, REFUSALS, SAVE_EFFECT, load_record, save_record
from workflows._saga_record import NOTE_EFFECT, REPAIR_WORKFLOW, steps_of, take_note
from workflows.saga import undo_noted

if TYPE_CHECKING:
    from workflows.kit import WorkflowKit


def register_builtins(kit: WorkflowKit) -> None:
    """
    Put them on a kit; their names begin with ``occ-``.
    """
    kit.effect(name=LOAD_EFFECT, record_errors=REFUSALS)(load_record)
    kit.effect(name=SAVE_EFFECT, record_errors=REFUSALS)(save_record)
    kit.effect(name=NOTE_EFFECT)(take_note)
    kit.workflow(name=REPAIR_WORKFLOW)(repair)


def repair(ctx: Any, record: dict[str, Any]) -> Generator[Any, Any, list[dict[str, Any]]]:
    """
    Undo the sagas of a workflow that was terminated, newest first; their reports.
    """
    reports: list[dict[str, Any]] = []
    for name, saga in reversed(record["sagas"].items()):
        reports.append((yield from undo_noted(ctx, name, steps_of(saga), record["workflow_id"])))
    return reports
