"""
A worker of the library's workflows in a process of its own.

Given a number it kills itself right after so many commits, before the engine hears of the last one's result.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from datetime import UTC, datetime

from dapr.ext.workflow import WorkflowRuntime

from toolkit.core.events import Event
from toolkit.log import add_hook
from workflows import WorkflowKit
from workflows.library import READY
from workflows.library.runner import host_and_port


def gated(ctx, inp):
    """
    Any workflow, begun at a given time: by then all have been started, and a worker may die.
    """
    yield ctx.create_timer(datetime.fromtimestamp(inp["at"], UTC).replace(tzinfo=None))
    return (yield ctx.call_child_workflow(inp["workflow"], input=inp["input"]))


def main() -> None:
    address, store, commits = sys.argv[1], sys.argv[2], int(sys.argv[3])
    kit = WorkflowKit(WorkflowRuntime(**host_and_port(address)), store, address=address)
    for ready in READY.values():
        ready.register(kit)
    kit.workflow(name="gated")(gated)
    left = itertools.count(commits - 1, -1)

    def die_in_time(event: Event) -> None:
        if event.name == "occ.committed" and next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    add_hook(die_in_time)
    with kit:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
