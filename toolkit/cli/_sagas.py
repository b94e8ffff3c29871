"""
``occ workflow saga``: what sagas left in the store, and undoing those whose workflow is gone.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any, Final

import typer

from toolkit.cli._options import FAILED, Address, AsJson, Store

SHOW_EPILOG: Final = (
    "Example: occ workflow saga show order-17. Exit code 0; 1: there is no such record, or no sidecar."
)
RESUME_EPILOG: Final = (
    "Example: occ workflow saga resume order-17. A worker with the undo effects must run. Exit code 0: the repair is "
    "started (or was before); 1: there is no record, the workflow is not over, or no sidecar."
)

RESOLVE_EPILOG: Final = (
    "Example: occ workflow saga resolve order-17 retry --step charge. Exit code 0: told; 1: the workflow is unknown or "
    "over, or no sidecar; 2: there is no such action."
)

Workflow = Annotated[str, typer.Argument(metavar="ID", help="The workflow instance.")]

app = typer.Typer(
    help="Look at sagas, and undo those whose workflow was terminated.",
    epilog=SHOW_EPILOG,
    no_args_is_help=True,
)


@app.command("show", epilog=SHOW_EPILOG)
def show(
    workflow_id: Workflow, *, store: Store = "statestore", address: Address = None, as_json: AsJson = False
) -> None:
    """
    Print the steps of the sagas of a workflow, as they were noted before they ran.
    """
    from toolkit import StateError, StateStore
    from workflows.repair import saga_record

    try:
        with StateStore(store, address=address) as states:
            record = saga_record(states, workflow_id)
    except StateError as error:
        raise _failed(error) from None
    if as_json:
        typer.echo(json.dumps(record))
        return
    for name, saga in record["sagas"].items():
        typer.echo(f"{name}: {saga['state']}")
        fates = [step["fate"] for step in saga.get("report", {}).get("steps", [])]
        for number, step in enumerate(saga["steps"]):
            fate = fates[number] if number < len(fates) else "noted"
            typer.echo(f"  {number + 1}. {step['effect']:<24}{fate:<10}{_undo(step)}")


def _undo(step: dict[str, Any]) -> str:
    pivot = ", pivot" if step.get("pivot") else ""
    return (f"undone by {step['undo']}" if step.get("undo") else "no undo") + pivot


@app.command("resume", epilog=RESUME_EPILOG)
def resume(
    workflow_id: Workflow, *, store: Store = "statestore", address: Address = None, as_json: AsJson = False
) -> None:
    """
    Undo the sagas of a workflow that was terminated or failed.
    """
    from dapr.ext.workflow import DaprWorkflowClient

    from toolkit import StateError, StateStore
    from workflows.library.runner import host_and_port
    from workflows.repair import resume_saga

    try:
        with StateStore(store, address=address) as states:
            started = resume_saga(DaprWorkflowClient(**host_and_port(address)), states, workflow_id)
    except (StateError, RuntimeError) as error:
        raise _failed(error) from None
    if as_json:
        typer.echo(json.dumps({"instance_id": started.instance_id, "started": started.started}))
    else:
        typer.echo(f"{started.instance_id}: {'started' if started.started else 'was started before'}")


class Action(StrEnum):
    """
    What an operator can say.
    """

    RETRY = "retry"
    SKIP = "skip"
    DONE = "done"


@app.command("resolve", epilog=RESOLVE_EPILOG)
def resolve(
    workflow_id: Workflow,
    action: Annotated[Action, typer.Argument(help="Try again, leave it out, or: it was done by hand.")],
    *,
    step: Annotated[
        str | None,
        typer.Option("--step", metavar="EFFECT", help="The step that is meant; else the one waiting."),
    ] = None,
    address: Address = None,
) -> None:
    """
    Tell a saga that needs attention how to go on.
    """
    import grpc
    from dapr.ext.workflow import DaprWorkflowClient

    from toolkit import StateError
    from workflows.library.runner import host_and_port
    from workflows.repair import resolve_saga

    try:
        resolve_saga(DaprWorkflowClient(**host_and_port(address)), workflow_id, action.value, step=step)
    except (StateError, RuntimeError) as error:
        raise _failed(error) from None
    except grpc.RpcError as error:
        said: Any = error
        raise _failed(RuntimeError(f"the sidecar gave no answer: {said.details()}")) from None
    typer.echo(f"{workflow_id}: told {action.value!r}")


def _failed(error: Exception) -> typer.Exit:
    typer.echo(f"occ workflow saga: {error}", err=True)
    return typer.Exit(FAILED)
