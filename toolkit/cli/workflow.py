"""
``occ workflow``: run the ready workflows.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
from collections.abc import Generator
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Final, NoReturn

import typer

from toolkit.cli import _checkpoints, _sagas
from toolkit.cli._options import FAILED, USAGE

# Any of these says that a sidecar is there.
PLACES: Final = ("DAPR_GRPC_ENDPOINT", "DAPR_GRPC_PORT")

RUN_EPILOG: Final = (
    "Example: occ workflow run transfer --input book.json. Exit code 0: all done and the check holds; 1: an instance "
    "failed, the check does not hold, or no sidecar; 2: the arguments or the input file are wrong."
)
LIST_EPILOG: Final = "Example: occ workflow list. Exit code 0."

app = typer.Typer(
    help="Run ready workflows whose effects are applied exactly once.",
    epilog=RUN_EPILOG,
    no_args_is_help=True,
)
app.add_typer(_checkpoints.app, name="checkpoints")
app.add_typer(_sagas.app, name="saga")


@app.command("list", epilog=LIST_EPILOG)
def list_ready() -> None:
    """
    Name the ready workflows.
    """
    for name, ready in _library().READY.items():
        typer.echo(f"{name:<16}{ready.summary}")


@app.command("run", epilog=RUN_EPILOG)
def run(
    name: Annotated[str, typer.Argument(metavar="NAME", help="One of those that `occ workflow list` names.")],
    *,
    input_file: Annotated[
        Path | None, typer.Option("--input", metavar="FILE", help="The input; sample data without it.")
    ] = None,
    store: Annotated[
        str, typer.Option("--store", metavar="NAME", help="The state store component of the effects.")
    ] = "statestore",
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            metavar="HOST:PORT",
            help="The sidecar; else DAPR_GRPC_ENDPOINT or DAPR_GRPC_PORT; else one of its own, for this run alone.",
        ),
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds for all of it.")] = 120.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """
    Run a ready workflow, wait until it is done, and check what must hold afterwards.

    The worker runs in this command. Stopped in the middle, the same command goes on where it was, as long as the
    sidecar and its stores are the same.
    """
    from toolkit.errors import StateError
    from toolkit.sidecar.errors import SidecarError

    library = _library()
    if name not in library.READY:
        _stop(f"there is no workflow {name!r}; there are {', '.join(library.READY)}", USAGE)
    from workflows.library.plan import InputFileError
    from workflows.library.runner import run_ready

    ready = library.READY[name]
    try:
        plan = ready.plan(
            ready.sample_text() if input_file is None else input_file.read_text(encoding="utf-8")
        )
    except (InputFileError, OSError, UnicodeDecodeError) as error:
        _stop(f"{input_file}: {error}", USAGE)
    try:
        with _sidecar(address) as place:
            report = run_ready(ready, plan, store=store, address=place, timeout=timeout)
    except (StateError, SidecarError) as error:
        _stop(str(error), FAILED)
    _show(report, as_json=as_json)
    raise typer.Exit(0 if report["ok"] else FAILED)


def _library() -> ModuleType:
    """
    The library of ready workflows, unless another package stands in its place.
    """
    try:
        return importlib.import_module("workflows.library")
    except ImportError as error:
        found = importlib.util.find_spec("workflows")
        at = "nowhere" if found is None else found.origin
        _stop(
            f"the workflows of dapr-occ cannot be used: {error} (the package `workflows` is at {at})", FAILED
        )


@contextlib.contextmanager
def _sidecar(address: str | None) -> Generator[str | None]:
    """
    Where the sidecar is: where we are told, or one of our own.
    """
    if address is not None or any(os.environ.get(place) for place in PLACES):
        yield address
        return
    from toolkit.sidecar.build import ensure
    from toolkit.sidecar.sidecar import Sidecar

    typer.echo("occ workflow: no sidecar is named; starting one for this run", err=True)
    with Sidecar(workflows=True, app_id="occ-workflow", binaries=ensure()) as own:
        yield own.grpc_endpoint


def _show(report: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(report))
        return
    width = max(map(len, report)) + 2
    for name, value in report.items():
        typer.echo(f"{name:<{width}}{value}")


def _stop(line: str, code: int) -> NoReturn:
    typer.echo(f"occ workflow: {line}", err=True)
    raise typer.Exit(code)
