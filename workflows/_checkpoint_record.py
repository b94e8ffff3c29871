"""
What a checkpoint is in the store, and the effects that read and write it.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

import msgspec

from workflows.errors import CheckpointFencedError

LOAD_EFFECT: Final = "occ-checkpoint-load"
SAVE_EFFECT: Final = "occ-checkpoint-save"


class Request(msgspec.Struct, frozen=True):
    """
    What the two effects are asked.

    Attributes:
        owner: The workflow instance that asks.
        at: Its time, Unix seconds.
        take_over: Whether a checkpoint of another instance may be taken over.
        create: Whether to make one where there is none.
        epoch: For a save: the epoch it was loaded in.
        seq: For a save: the number it is to have.
    """

    name: str
    subject: str
    owner: str
    at: float
    version: int
    data: Any = None
    take_over: bool = True
    create: bool = True
    epoch: int = 0
    seq: int = 0


def record_key(name: str, subject: str) -> str:
    """
    The key of one checkpoint.
    """
    return f"_wf-checkpoint-{quote(name, safe='')}-{quote(subject, safe='')}"


def index_key(name: str) -> str:
    """
    The key of the list of the subjects of a name.
    """
    return f"_wf-checkpoints-{quote(name, safe='')}"


def load_record(tx: Any, asked: Request) -> dict[str, Any] | None:
    """
    The effect that makes a checkpoint this instance's own: nobody who loaded it before can save it any more.
    """
    key = record_key(asked.name, asked.subject)
    found: dict[str, Any] | None = tx.get(key)
    if found is None and not asked.create:
        return None
    if found is None:
        found = {"name": asked.name, "subject": asked.subject, "version": asked.version, "seq": 0, "epoch": 0}
        found |= {"data": asked.data, "saved_at": asked.at, "owner": asked.owner}
        index: dict[str, Any] = tx.get(index_key(asked.name), {"subjects": []})
        tx.put(index_key(asked.name), {"subjects": sorted({*index["subjects"], asked.subject})})
    elif found["owner"] != asked.owner and not asked.take_over:
        raise CheckpointFencedError(
            f"checkpoint {asked.name!r} of {asked.subject!r} belongs to workflow {found['owner']!r}; take it over by name "
            f"(take_over=True) once that one is over"
        )
    taken = {**found, "owner": asked.owner, "epoch": found["epoch"] + 1}
    tx.put(key, taken)
    return taken


def save_record(tx: Any, asked: Request) -> dict[str, Any]:
    """
    The effect that saves a checkpoint, as long as it is still this instance's own.
    """
    key = record_key(asked.name, asked.subject)
    found: dict[str, Any] | None = tx.get(key)
    what = f"checkpoint {asked.name!r} of {asked.subject!r}"
    if found is None:
        raise CheckpointFencedError(f"{what} was dropped since workflow {asked.owner!r} loaded it")
    if found["epoch"] != asked.epoch:
        raise CheckpointFencedError(
            f"{what} was taken over by workflow {found['owner']!r} (epoch {found['epoch']}, this run's is {asked.epoch}): "
            f"this run is superseded and should end"
        )
    if found["seq"] != asked.seq - 1:
        raise CheckpointFencedError(
            f"{what} is at number {found['seq']}: number {asked.seq} does not follow it"
        )
    saved = {**found, "seq": asked.seq, "data": asked.data, "version": asked.version, "saved_at": asked.at}
    tx.put(key, saved)
    return {"seq": asked.seq, "epoch": asked.epoch, "saved_at": asked.at}
