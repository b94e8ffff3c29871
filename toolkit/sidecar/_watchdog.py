"""
Ends processes and removes directories whose owner is gone.

Run as a script, in a session of its own and without the site packages, by ``toolkit.sidecar.process``. It reads lines
from its standard input: ``+pid N``, ``+group N``, ``-pid N``, ``-group N`` to add and forget what is to end, ``dir
PATH`` to add a directory. The end of the input, or another parent process than at the start, means that the owner
crashed. A watchdog instead of PR_SET_PDEATHSIG: that signal follows the *thread* that started the process, which for
a worker thread ends long before the program does, and exists on Linux alone.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import time

POLL = 1.0  # seconds between two looks at the parent, for owners whose pipe a forked child still holds open
GRACE = 3.0  # seconds between SIGTERM and SIGKILL


def _send(kind: str, number: int, signum: int) -> bool:
    try:
        if kind == "group":
            os.killpg(number, signum)
        else:
            os.kill(number, signum)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _end(targets: set[tuple[str, int]]) -> None:
    for kind, number in targets:
        _send(kind, number, signal.SIGCONT)
        _send(kind, number, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline and any(_send(kind, number, 0) for kind, number in targets):
        time.sleep(0.05)
    for kind, number in targets:
        _send(kind, number, signal.SIGKILL)


def main() -> None:
    parent = os.getppid()
    targets: set[tuple[str, int]] = set()
    directories: list[str] = []
    pending = b""
    done = False
    while os.getppid() == parent:
        readable, _, _ = select.select([0], [], [], POLL)
        if not readable:
            continue
        data = os.read(0, 65536)
        if not data:
            break
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            verb, _, rest = os.fsdecode(line).partition(" ")
            if verb == "dir":
                directories.append(rest)
            elif verb == "done":
                done = True
            elif verb[0] == "+":
                targets.add((verb[1:], int(rest)))
            else:
                targets.discard((verb[1:], int(rest)))
        if done:
            return
    _end(targets)
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
    sys.exit(0)
