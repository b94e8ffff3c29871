"""
The store of the model, which takes messages whole or not at all, and a program run by itself on it.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from toolkit.core.model import MISSING_ROW, OK, Reply, Row, Write
from toolkit.core.steps import Chance, Get, GetAll, Instant, Multi, Note, Now, Pause, Put, PutAll, Step, Steps

# How a create is worded for Redis: an ETag that no row has and the absence of one passes for.
NOBODY: Final = "2147483647"
LOST: Final = Reply("UNAVAILABLE", "lost")
CONFLICT: Final = Reply("ABORTED", "possible etag mismatch. error from state store: etag mismatch")

Message: TypeAlias = tuple[Write, ...]
Rows: TypeAlias = tuple[tuple[str, bytes, int], ...]


def parts_of(step: Step[Any]) -> tuple[Any, ...]:
    """What of a step is answered on its own: keys to be read, messages to be sent."""
    match step:
        case Get(key):
            return (key,)
        case GetAll(keys):
            return keys
        case Put(write):
            return ((write,),)
        case PutAll(writes):
            return tuple((write,) for write in writes)
        case Multi(writes):
            return (writes,)
    raise TypeError(f"no such step: {step!r}")


def deliver(rows: Rows, message: Message) -> tuple[Rows, Reply]:
    """The store takes a message whole or not at all; its ETags only grow."""
    table = {key: (data, etag) for key, data, etag in rows}
    for write in message:
        found = table.get(write.key)
        if write.etag is not None and write.etag != (NOBODY if found is None else str(found[1])):
            return rows, CONFLICT
        if write.etag is None and write.first_write and found is not None:
            return rows, CONFLICT
    for write in message:
        if write.data is None:
            table.pop(write.key, None)
        else:
            table[write.key] = (write.data, table.get(write.key, (b"", 0))[1] + 1)
    return tuple(sorted((key, data, etag) for key, (data, etag) in table.items())), OK


def look(rows: Rows, key: str) -> Row:
    """A strong read."""
    for name, data, etag in rows:
        if name == key:
            return Row(data, str(etag))
    return MISSING_ROW


def aside(step: Step[Any], mono: float) -> tuple[Any, float] | None:
    """The answer to a step that concerns nobody else, and the clock afterwards; ``None`` for one that does."""
    match step:
        case Now():
            return Instant(1000.0 + mono, mono), mono
        case Chance():
            return 0.5, mono
        case Pause(seconds):
            return None, mono + seconds
        case Note():
            return None, mono
    return None


def replay(steps: Steps[Any], history: list[tuple[Any, ...]]) -> tuple[Step[Any] | None, tuple[Any, ...]]:
    """
    Run a program again with the answers it had: the step it is at now, and what it reported.
    """
    answers, mono, reports = iter(history), 0.0, []
    answer: Any = None
    try:
        while True:
            step = steps.send(answer)
            if isinstance(step, Note):
                reports.append(step.event)
            own = aside(step, mono)
            if own is not None:
                answer, mono = own
                continue
            given = next(answers, None)
            if given is None:
                return step, tuple(reports)
            answer = given if isinstance(step, GetAll | PutAll) else given[0]
    except StopIteration:
        return None, tuple(reports)
    finally:
        steps.close()


def alone(steps: Steps[Any], rows: Rows) -> tuple[Any, Rows]:
    """Run a program by itself, without faults, to its end."""
    mono = 0.0
    answer: Any = None
    try:
        while True:
            step = steps.send(answer)
            own = aside(step, mono)
            if own is not None:
                answer, mono = own
                continue
            match step:
                case Get(key):
                    answer = look(rows, key)
                case GetAll(keys):
                    answer = tuple(look(rows, key) for key in keys)
                case _:
                    replies: list[Reply] = []
                    for message in parts_of(step):
                        rows, reply = deliver(rows, message)
                        replies.append(reply)
                    answer = tuple(replies) if isinstance(step, PutAll) else replies[0]
    except StopIteration as stop:
        return stop.value, rows
