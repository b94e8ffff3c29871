"""
``occ workflow checkpoints``: what long jobs have saved, seen and dropped from outside.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from toolkit.cli._agree import agreed
from toolkit.cli._options import FAILED, USAGE, Address, AsJson, Store

if TYPE_CHECKING:
    from workflows.checkpoints import Checkpoints


SHOW_EPILOG: Final = (
    "Example: occ workflow checkpoints show rollup 2026-10. Exit code 0; 1: there is none, or no sidecar."
)
LIST_EPILOG: Final = "Example: occ workflow checkpoints list rollup. Exit code 0; 1: no sidecar."
DROP_EPILOG: Final = (
    "Example: occ workflow checkpoints drop rollup 2026-10 --yes. Exit code 0: dropped; 1: there was none, or no "
    "sidecar; 2: not confirmed."
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of the job.")]
Subject = Annotated[str, typer.Argument(metavar="SUBJECT", help="What the checkpoint is about.")]

app = typer.Typer(
    help="Look at the checkpoints of long workflows, and drop them.", epilog=LIST_EPILOG, no_args_is_help=True
)


@contextlib.contextmanager
def _opened(store: str, address: str | None) -> Generator[Checkpoints]:
    """
    The checkpoints of a store; an error becomes one line and exit code 1.
    """
    from toolkit import StateError, StateStore
    from workflows.checkpoints import Checkpoints

    try:
        with StateStore(store, address=address) as states:
            yield Checkpoints(states)
    except StateError as error:
        typer.echo(f"occ workflow checkpoints: {error}", err=True)
        raise typer.Exit(FAILED) from None


@app.command("show", epilog=SHOW_EPILOG)
def show(
    name: Name,
    subject: Subject,
    *,
    store: Store = "statestore",
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """
    Print one checkpoint: its data, how often it was saved, and which run may save it.
    """
    with _opened(store, address) as checkpoints:
        record = checkpoints.get(name, subject)
        if record is None:
            raise _missing(name, subject)
        if as_json:
            typer.echo(json.dumps(record))
            return
        for field, value in _shown(record).items():
            typer.echo(f"{field:<10}{value}")


def _shown(record: dict[str, Any]) -> dict[str, Any]:
    saved = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(record["saved_at"]))
    return {
        "saved": f"{saved}, number {record['seq']}, version {record['version']}",
        "owner": f"workflow {record['owner']}, epoch {record['epoch']}",
        "data": json.dumps(record["data"], ensure_ascii=False),
    }


@app.command("list", epilog=LIST_EPILOG)
def list_subjects(
    name: Name, *, store: Store = "statestore", address: Address = None, as_json: AsJson = False
) -> None:
    """
    Print what there are checkpoints about, one a line.
    """
    with _opened(store, address) as checkpoints:
        subjects = checkpoints.list(name)
    if as_json:
        typer.echo(json.dumps({"name": name, "subjects": subjects}))
        return
    for subject in subjects:
        typer.echo(subject)


@app.command("drop", epilog=DROP_EPILOG)
def drop(
    name: Name,
    subject: Subject,
    *,
    store: Store = "statestore",
    address: Address = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """
    Remove a checkpoint; a run that still has it is refused at its next save.

    It asks first, unless nobody can answer.
    """
    with _opened(store, address) as checkpoints:
        record = checkpoints.get(name, subject)
        if record is None:
            raise _missing(name, subject)
        question = f"Drop checkpoint {name!r} of {subject!r}, number {record['seq']}? Its job begins anew."
        if not yes and not agreed(question):
            raise typer.Exit(USAGE)
        checkpoints.drop(name, subject)
    if as_json:
        typer.echo(json.dumps({"name": name, "subject": subject, "dropped": True, "seq": record["seq"]}))
    else:
        typer.echo(f"{name} {subject}: dropped")


def _missing(name: str, subject: str) -> typer.Exit:
    typer.echo(
        f"occ workflow checkpoints: there is no checkpoint {name!r} of {subject!r}; "
        f"`occ workflow checkpoints list {name}` names those there are",
        err=True,
    )
    return typer.Exit(FAILED)
