"""
A worker of the library's workflows in a process of its own.

Given a number it kills itself right after so many commits, before the engine hears of the last one's result; not before it
has said that it is ready, though: work comes as soon as it has its stream, which may be some time earlier.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading

from dapr.ext.workflow import WorkflowRuntime

from toolkit.core.events import Event
from toolkit.log import add_hook
from workflows import WorkflowKit
from workflows._payload import reader_of
from workflows.library import READY
from workflows.library.runner import host_and_port

BEGIN = "begin"


def gated(ctx, inp):
    """
    Any workflow, begun at a word, as a child: it may continue as new.
    """
    yield ctx.wait_for_external_event(BEGIN)
    return (yield ctx.call_child_workflow(inp["workflow"], input=inp["input"]))


class Gate(WorkflowKit):
    """
    A kit with two workflows more that begin any other once all have been started, and a worker may die.

    ``gated-here`` does so in its own instance: Dapr at times fails the start of a child whose worker dies meanwhile.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.kept = {}
        super().workflow(name="gated")(gated)
        super().workflow(name="gated-here")(self.gated_here)

    def workflow(self, *, name=None):
        decorate = super().workflow(name=name)

        def keep(fn):
            found = decorate(fn)
            self.kept[found.name] = found.fn
            return found

        return keep

    def gated_here(self, ctx, inp):
        yield ctx.wait_for_external_event(BEGIN)
        fn = self.kept[inp["workflow"]]
        return (yield from fn(ctx, *reader_of(fn)(inp["input"])))


def main() -> None:
    address, store, commits = sys.argv[1], sys.argv[2], int(sys.argv[3])
    kit = Gate(WorkflowRuntime(**host_and_port(address)), store, address=address)
    for each in READY.values():
        each.register(kit)
    left = itertools.count(commits - 1, -1)
    ready = threading.Event()

    def die_in_time(event: Event) -> None:
        if event.name == "occ.committed" and next(left) <= 0:
            ready.wait()  # with those behind it: some work is left for the next one
            os.kill(os.getpid(), signal.SIGKILL)

    if commits:
        add_hook(die_in_time)
    with kit:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        ready.set()
        sys.stdin.read()


if __name__ == "__main__":
    main()
