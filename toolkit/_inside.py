"""
Inside of what a call is made: a user's function that must not call a store, a transaction body, a forked child.
"""

from __future__ import annotations

import os
import threading
from contextvars import ContextVar

inside = threading.local()


def running(where: str | None) -> None:
    """
    Say what code of the user runs in this thread from now on; a call on a store from inside it is refused.
    """
    inside.where = where


class Forks:
    """
    How often this process was forked off since the import; cheaper to ask than the process id.
    """

    count = 0

    def add(self) -> None:
        self.count += 1


forks = Forks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forks.add)

# Name of the transaction body under way in this thread or task.
in_body: ContextVar[str | None] = ContextVar("occ_body", default=None)
