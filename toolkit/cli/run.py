"""
``occ run``: a command with a real Dapr sidecar beside it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from toolkit.cli._options import FAILED, USAGE

EPILOG: Final = (
    "Example: occ run --resources components/redis.yaml -- python app.py. Exit code: the command's; 1: the sidecar "
    "failed; 2: the component files or the arguments are wrong; 127: no such command."
)
# Everything after CMD belongs to CMD, options included.
CONTEXT: Final = {"allow_interspersed_args": False}


def run(
    command: Annotated[list[str], typer.Argument(metavar="-- CMD...", help="The command and its arguments.")],
    *,
    resources: Annotated[
        list[Path] | None,
        typer.Option(
            "--resources",
            metavar="PATH",
            help="A directory of Dapr component files, or one file; may be repeated. Without it: embedded SQLite in a "
            "temporary directory, named statestore.",
        ),
    ] = None,
    app_id: Annotated[
        str, typer.Option("--app-id", metavar="ID", help="The app id; a prefix of every key.")
    ] = "occ",
    app_port: Annotated[
        int | None,
        typer.Option(
            "--app-port", metavar="N", min=1, max=65535, help="Where CMD listens, if Dapr is to call it."
        ),
    ] = None,
    app_protocol: Annotated[
        str, typer.Option("--app-protocol", metavar="http|grpc", help="What CMD speaks.")
    ] = "http",
    workflows: Annotated[
        bool, typer.Option("--workflows", help="Start placement and scheduler too, for workflows and actors.")
    ] = False,
    log: Annotated[
        Path | None, typer.Option("--log", metavar="FILE", help="Keep daprd's log in this file.")
    ] = None,
) -> None:
    """
    Run a command with a real Dapr sidecar on free ports, ready before the command starts.

    The command finds it by DAPR_GRPC_ENDPOINT, DAPR_GRPC_PORT, DAPR_HTTP_ENDPOINT and DAPR_HTTP_PORT. Everything that
    was started ends with the command.
    """
    from toolkit.sidecar.build import ensure
    from toolkit.sidecar.errors import ComponentFileError, SidecarError
    from toolkit.sidecar.resources import check
    from toolkit.sidecar.runner import run_command
    from toolkit.sidecar.sidecar import Sidecar

    if app_protocol not in ("http", "grpc"):
        say(f"--app-protocol is http or grpc, not {app_protocol!r}")
        raise typer.Exit(USAGE)
    try:
        check(resources or ())
        sidecar = Sidecar(
            resources=resources or (),
            app_id=app_id,
            app_port=app_port,
            app_protocol=app_protocol,
            workflows=workflows,
            # A token around us is the one the command will show.
            api_token=os.environ.get("DAPR_API_TOKEN") or None,
            binaries=ensure(),
            keep_log=log,
        )
        raise typer.Exit(run_command(command, sidecar, say))
    except ComponentFileError as error:
        say(str(error))
        raise typer.Exit(USAGE) from None
    except SidecarError as error:
        say(str(error))
        raise typer.Exit(FAILED) from None


def say(line: str) -> None:
    """
    Tell the user something without touching the command's own output.
    """
    typer.echo(f"occ run: {line}", err=True)
