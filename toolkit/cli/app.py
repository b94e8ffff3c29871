"""
The commands of ``occ``, each mounted from a thin module of its own.
"""

from __future__ import annotations

import typer

app = typer.Typer(
    name="occ",
    help="Optimistic concurrency on Dapr state: run a sidecar, watch conflicts, read their log.",
    epilog="Example: occ demo. `occ COMMAND --help` has an example of each command.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def _root() -> None:
    # With a callback a single command stays a subcommand: `occ run`, not `occ`.
    return


def _mount_run() -> None:
    from toolkit.cli import run

    app.command("run", context_settings=run.CONTEXT, epilog=run.EPILOG)(run.run)


def _mount_log() -> None:
    from toolkit.cli import log

    app.add_typer(log.app, name="log")


def _mount_demo() -> None:
    from toolkit.cli import demo

    app.command("demo", epilog=demo.EPILOG)(demo.demo)


def _mount_doctor() -> None:
    from toolkit.cli import doctor

    app.command("doctor", epilog=doctor.EPILOG)(doctor.doctor)


def _mount_keys() -> None:
    from toolkit.cli import inspect as keys

    app.command("inspect", epilog=keys.INSPECT_EPILOG)(keys.inspect)
    app.command("strip", epilog=keys.STRIP_EPILOG)(keys.strip)
    app.command("repair", epilog=keys.REPAIR_EPILOG)(keys.repair)
    app.command("sweep", epilog=keys.SWEEP_EPILOG)(keys.sweep)


def _mount_workflow() -> None:
    from toolkit.cli import workflow

    app.add_typer(workflow.app, name="workflow")


_mount_run()
_mount_demo()
_mount_doctor()
_mount_keys()
_mount_log()
_mount_workflow()
