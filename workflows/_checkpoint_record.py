"""
What a checkpoint is in the store, and the effects that read and write it.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

import msgspec

from workflows.errors import CheckpointFencedError, CheckpointVersionError

# What the two effects answer with, and what is recorded as their outcome.
REFUSALS: Final = (CheckpointFencedError, CheckpointVersionError)

LOAD_EFFECT: Final = "occ-checkpoint-load"
SAVE_EFFECT: Final = "occ-checkpoint-save"


class Request(msgspec.Struct, frozen=True):
    """
    What the two effects are asked.

    Attributes:
        owner: The workflow instance that asks.
        at: Its time, Unix seconds.
        version: Of the form of the data that its code works with.
        oldest: For a load: the oldest version that its code can bring up to date.
        take_over: Whether a checkpoint of another instance may be taken over.
        create: Whether to make one where there is none.
        token: What the load that this run knows of was named; for a first load nothing.
        seq: For a save: the number it is to have.
    """

    name: str
    subject: str
    owner: str
    at: float
    version: int
    data: Any = None
    oldest: int = 1
    take_over: bool = True
    create: bool = True
    token: str = ""
    seq: int = 0


def record_key(name: str, subject: str) -> str:
    """
    The key of one checkpoint.
    """
    # A colon, which quoting leaves in neither of the two: with a dash `a-b` of `c` would be `a` of `b-c`.
    return f"_wf-checkpoint-{quote(name, safe='')}:{quote(subject, safe='')}"


def index_key(name: str) -> str:
    """
    The key of the list of the subjects of a name.
    """
    return f"_wf-checkpoints-{quote(name, safe='')}"


def load_record(tx: Any, asked: Request) -> dict[str, Any] | None:
    """
    The effect that makes a checkpoint this run's own: nobody who loaded it before can save it any more.

    Each load has a name of its own, the operation id. The epoch alone would not do: it starts again after a drop.
    """
    key = record_key(asked.name, asked.subject)
    found: dict[str, Any] | None = tx.get(key)
    if found is None and not asked.create:
        return None
    if found is None:
        found = {"name": asked.name, "subject": asked.subject, "version": asked.version, "seq": 0, "epoch": 0}
        found |= {"data": asked.data, "saved_at": asked.at}
        index: dict[str, Any] = tx.get(index_key(asked.name), {"subjects": []})
        tx.put(index_key(asked.name), {"subjects": sorted({*index["subjects"], asked.subject})})
    else:
        _refuse_load(found, asked)
    taken = {**found, "owner": asked.owner, "epoch": found["epoch"] + 1, "token": tx.op}
    tx.put(key, taken)
    return taken


def _refuse_load(found: dict[str, Any], asked: Request) -> None:
    """
    Raise, before anything is taken over, when this run may not have the checkpoint or could not read it.
    """
    what = f"checkpoint {asked.name!r} of {asked.subject!r}"
    if asked.token and found["token"] != asked.token:
        # Else a superseded run would take it back when it continues as new, and its successor would do the same.
        raise CheckpointFencedError(_superseded(what, found))
    if found["owner"] != asked.owner and not asked.take_over:
        raise CheckpointFencedError(
            f"{what} belongs to workflow {found['owner']!r}; take it over by name (take_over=True) once that one is over"
        )
    if found["version"] > asked.version:
        raise CheckpointVersionError(
            f"{what} was saved in version {found['version']}, this code knows {asked.version}: run the newer code"
        )
    if found["version"] < asked.oldest:
        raise CheckpointVersionError(
            f"{what} is in version {found['version']}: migrate= has no step from {asked.oldest - 1} to {asked.oldest}"
        )


def save_record(tx: Any, asked: Request) -> dict[str, Any]:
    """
    The effect that saves a checkpoint, as long as it is still this run's own.
    """
    key = record_key(asked.name, asked.subject)
    found: dict[str, Any] | None = tx.get(key)
    what = f"checkpoint {asked.name!r} of {asked.subject!r}"
    if found is None:
        raise CheckpointFencedError(f"{what} was dropped since workflow {asked.owner!r} loaded it")
    if found["token"] != asked.token:
        raise CheckpointFencedError(_superseded(what, found))
    if asked.seq <= found["seq"]:
        raise CheckpointFencedError(
            f"{what} is at number {found['seq']}: number {asked.seq} does not follow it"
        )
    saved = {**found, "seq": asked.seq, "data": asked.data, "version": asked.version, "saved_at": asked.at}
    tx.put(key, saved)
    return {"seq": asked.seq, "epoch": found["epoch"], "saved_at": asked.at}


def _superseded(what: str, found: dict[str, Any]) -> str:
    return (
        f"{what} was taken over by workflow {found['owner']!r} (epoch {found['epoch']}): this run is superseded and should "
        "end"
    )
