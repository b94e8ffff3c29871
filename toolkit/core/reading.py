"""
What readers get: one value, an entry, several entries. Readers never block on writers and never write.
"""

from __future__ import annotations

from typing import Any

from toolkit.core.intents import intent_of
from toolkit.core.model import Entry, Reply
from toolkit.core.recovery import peek
from toolkit.core.seen import Seen, see
from toolkit.core.settle import read
from toolkit.core.site import Site, rpc_timeout
from toolkit.core.steps import GetAll, Now, Steps


def visible(site: Site, key: str, deadline: float, *, strong: bool = True) -> Steps[Seen]:
    """
    One key as a reader sees it: of a transaction under way either all of what it decided or nothing.
    """
    seen = yield from read(site, key, deadline, strong=strong)
    if intent_of(seen) is None:
        return seen
    return (yield from peek(site, seen, deadline))


def value_of(site: Site, key: str, deadline: float, default: Any, *, strong: bool = True) -> Steps[Any]:
    """
    The value now, or the default.
    """
    seen = yield from visible(site, key, deadline, strong=strong)
    wall = (yield from Now()).wall
    return seen.value if seen.exists(wall) else default


def entry_of(seen: Seen, wall: float) -> Entry:
    """
    What a caller sees of a read; the value is a private copy already, made by decoding.
    """
    exists = seen.exists(wall)
    return Entry(seen.key, seen.value if exists else None, seen.version(wall), exists)


def read_entry(site: Site, key: str, deadline: float) -> Steps[Entry]:
    """
    The value and its version now.
    """
    seen = yield from visible(site, key, deadline)
    return entry_of(seen, (yield from Now()).wall)


def read_entries(site: Site, keys: tuple[str, ...], deadline: float) -> Steps[list[Entry]]:
    """
    Several keys, read in parallel by strong single reads.

    A bulk read has no consistency option and, on some stores, reports a key missing that is there.
    """
    entries: list[Entry] = []
    if not keys:
        return entries
    now = yield from Now()
    answers = yield from GetAll(keys, rpc_timeout(deadline, now.mono))
    for key, answer in zip(keys, answers, strict=True):
        if isinstance(answer, Reply):
            seen = yield from read(site, key, deadline)
        else:
            seen = see(key, answer)
        if intent_of(seen) is not None:
            seen = yield from peek(site, seen, deadline)
        entries.append(entry_of(seen, (yield from Now()).wall))
    return entries
