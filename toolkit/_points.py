"""
Named places in the shipped code at which a test can stop, break or kill the process.

``point("commit.prepared")`` does nothing until ``toolkit.testing.points`` puts a hook here; unused it costs one global
look-up. The names are the test's map of a write: they say what is about to happen, or has just happened.
"""

from __future__ import annotations

from collections.abc import Callable

_hook: Callable[[str], None] | None = None


def point(name: str) -> None:
    """
    Pass the place called *name*.
    """
    if _hook is not None:
        _hook(name)


def armed() -> bool:
    """
    Whether a hook is put, for places where passing a point would cost more than a look-up.
    """
    return _hook is not None


def set_hook(hook: Callable[[str], None] | None) -> None:
    """
    Put *hook* at every point of this process, or take it away with ``None``; for tests only.
    """
    global _hook  # noqa: PLW0603 - one global is what makes an unused point free
    _hook = hook
