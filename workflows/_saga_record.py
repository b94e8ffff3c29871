"""
What a saga leaves in the store before each step, so that it can be undone without its workflow.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

NOTE_EFFECT: Final = "occ-saga-note"
REPAIR_WORKFLOW: Final = "occ-saga-repair"
# What closing an operation says when its body recorded an error: it took no effect, and never will.
REFUSED: Final = "refused"


# Fates that an operator chose; a repair leaves such a step alone.
SKIPPED: Final = "skipped"
SETTLED: Final = "settled"
BY_HAND: Final = frozenset({SKIPPED, SETTLED})


class StepNote(msgspec.Struct, frozen=True):
    """
    A step and how it is undone; ``fate`` once an operator has settled it by hand.
    """

    effect: str
    op: str
    undo: str | None = None
    undo_input: Any = None
    pivot: bool = False
    fate: str = ""


class Note(msgspec.Struct, frozen=True):
    """
    One change of the record: a step that is about to run, or how the saga ended.
    """

    workflow_id: str
    saga: str
    at: int
    state: str
    step: StepNote | None = None
    report: dict[str, Any] | None = None


def record_key(workflow_id: str) -> str:
    """
    The key of the record of all sagas of a workflow instance.
    """
    return f"_wf-saga-{workflow_id}"


def take_note(tx: Any, note: Note) -> None:
    """
    The effect that keeps the record; a saga that is complete leaves none.
    """
    key = record_key(note.workflow_id)
    record: dict[str, Any] = tx.get(key, {"sagas": {}})
    sagas: dict[str, Any] = record["sagas"]
    saga = sagas.setdefault(note.saga, {"state": note.state, "steps": []})
    saga["state"] = note.state
    if note.step is not None:
        saga["steps"] = [*saga["steps"][: note.at], msgspec.to_builtins(note.step)]
    if note.report is not None:
        saga["report"] = note.report
        for step, said in zip(saga["steps"], note.report["steps"], strict=False):
            if said["fate"] in BY_HAND:
                step["fate"] = said["fate"]
    if note.state == "completed":
        del sagas[note.saga]
    if sagas:
        tx.put(key, record)
    else:
        tx.delete(key)


def steps_of(saga: dict[str, Any]) -> list[StepNote]:
    """
    The noted steps, oldest first.
    """
    return msgspec.convert(saga["steps"], list[StepNote])
