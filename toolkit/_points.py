"""
Named places in the shipped code at which a test can stop, break or kill the process.

``point("commit.prepared")`` does nothing until ``toolkit.testing.points`` puts a hook here; unused it costs one global
look-up. The names are the test's map of a write: they say what is about to happen, or has just happened.
"""

from __future__ import annotations

from collections.abc import Callable

hook: Callable[[str], None] | None = None
"""Told of each place that is passed; where passing would cost more than a look-up it is asked for first."""


def point(name: str) -> None:
    """
    Pass the place called *name*.
    """
    if hook is not None:
        hook(name)


def set_hook(new: Callable[[str], None] | None) -> None:
    """
    Put a hook at every point of this process, or take it away with ``None``; for tests only.
    """
    global hook  # noqa: PLW0603 - one global is what makes an unused point free
    hook = new
