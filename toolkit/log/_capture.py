"""
Events in a list, for tests.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from toolkit.core.events import Event
from toolkit.log._emitter import add_hook, remove_hook


@contextmanager
def capture() -> Generator[list[Event]]:
    """
    Collect every event emitted inside the block, from all threads and tasks, as the toolkit made it.

    >>> from toolkit.core.events import Event
    >>> from toolkit.log import capture, emit
    >>> with capture() as events:
    ...     emit(Event("occ.warning", {"message": "look"}))
    >>> events
    [Event(name='occ.warning', fields={'message': 'look'})]
    """
    events: list[Event] = []
    hook = events.append
    add_hook(hook)
    try:
        yield events
    finally:
        remove_hook(hook)
