"""
Several keys at one moment, by reading them until two readings agree (double collect).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from toolkit.core.model import Reply
from toolkit.core.plan import version_of
from toolkit.core.recovery import peek
from toolkit.core.seen import Seen, see
from toolkit.core.settle import backoff, read
from toolkit.core.site import Site, rpc_timeout
from toolkit.core.steps import GetAll, Now, Pause, Steps
from toolkit.errors import SnapshotUnstableError

MAX_ROUNDS: Final = 64


def snapshot(site: Site, keys: tuple[str, ...], deadline: float) -> Steps[Mapping[str, Any]]:
    """
    One consistent cut: the values of those keys that existed at one moment between call and return.

    Raises:
        SnapshotUnstableError: The keys kept changing until the deadline.
    """
    before: tuple[str, ...] | None = None
    rounds = 0
    for rounds in range(1, MAX_ROUNDS + 1):
        collected = yield from collect(site, keys, deadline)
        now = yield from Now()
        versions = tuple([version_of(seen, now.wall) for seen in collected])
        if versions == before or len(keys) <= 1:
            return MappingProxyType({seen.key: seen.value for seen in collected if seen.exists(now.wall)})
        before = versions
        if now.mono >= deadline:
            break
        if rounds > 2:
            yield from Pause(min((yield from backoff(1)), 0.02))
    raise SnapshotUnstableError(
        f"the keys {', '.join(map(repr, keys[:5]))} changed in every one of {rounds} readings; "
        f"take fewer keys, or read them in store.transact, which holds writers off"
    )


def collect(site: Site, keys: tuple[str, ...], deadline: float) -> Steps[list[Seen]]:
    """
    One reading of all keys, as readers see them.
    """
    now = yield from Now()
    answers = yield from GetAll(keys, rpc_timeout(deadline, now.mono))
    collected: list[Seen] = []
    for key, answer in zip(keys, answers, strict=True):
        seen = (yield from read(site, key, deadline)) if isinstance(answer, Reply) else see(key, answer)
        collected.append((yield from peek(site, seen, deadline)))
    return collected
