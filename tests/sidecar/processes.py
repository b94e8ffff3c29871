"""
Looking for processes that were left behind.
"""

from __future__ import annotations

import os
import select
import time
from pathlib import Path


def command_line(pid: int) -> list[str]:
    """
    The arguments a process was started with.
    """
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")


def using(text: str) -> set[int]:
    """
    The living processes whose command line or environment mentions a text.
    """
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            seen = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z" and text.encode() in seen:
            found.add(int(entry.name))
    return found


def left_over(text: str, within: float = 15.0) -> set[int]:
    """
    What still mentions the text after a while; empty as soon as nothing does.
    """
    deadline = time.monotonic() + within
    while (alive := using(text)) and time.monotonic() < deadline:
        wait_for_end(min(alive), deadline)
    return alive


def wait_for_end(pid: int, deadline: float) -> None:
    """
    Sleep until a process that is not our child ends, or until the deadline.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
    finally:
        os.close(descriptor)
