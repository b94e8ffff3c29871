"""
``renewals`` on one input, in a process that kills itself at a point of choice: ``ADDRESS FILE POINT COUNT``.

``turn`` is in the middle of the turn of a reminder, when the workflow has been told and the state not changed; ``commit``
is right after a charge, before the engine hears of it; ``never`` prints the report.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from pathlib import Path

from toolkit.core.events import Event
from toolkit.log import add_hook
from workflows.library import RENEWALS
from workflows.library.renewals_actor import RenewalsCustomer
from workflows.library.runner import run_ready


def main() -> None:
    address, file, point, count = sys.argv[1:]
    left = itertools.count(int(count) - 1, -1)

    def die_in_time() -> None:
        if next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    if point == "turn":
        say = RenewalsCustomer._say_due

        async def say_and_die(actor, period):
            await say(actor, period)
            die_in_time()

        RenewalsCustomer._say_due = say_and_die
    elif point == "commit":

        def charged(event: Event) -> None:
            if event.name == "occ.committed" and event.fields.get("op") == "renewals-charge":
                die_in_time()

        add_hook(charged)
    plan = RENEWALS.plan(Path(file).read_text(encoding="utf-8"))
    report = run_ready(RENEWALS, plan, store="statestore", address=address, timeout=120)
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main()
