"""
Reading a key ahead of an update that is expected soon; on asyncio.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from toolkit._drive import drive_async
from toolkit.core.intents import intent_of
from toolkit.core.model import Row
from toolkit.core.site import Site
from toolkit.core.steps import RPC_TIMEOUT, Get, Now, Steps
from toolkit.errors import CorruptValueError

if TYPE_CHECKING:
    from toolkit.async_store import AsyncStateStore


class ReadAhead:
    """
    One key of an open store that its owner updates again and again.

    ``start`` reads it in a task of its own; the next update of the key by this store object then writes at once, and
    reads only if the value has changed since. Where ETags come back, or a stale one can bring a deleted key to life,
    nothing is read ahead: there an update is only as safe as the time between its read and its write is short.
    """

    def __init__(self, store: AsyncStateStore, key: str) -> None:
        self._store, self._key = store, key
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """
        Read the key, unless that is under way or does not pay.
        """
        site, world = self._store._site, self._store._world  # noqa: SLF001  one package
        if site is None or (self._task is not None and not self._task.done()):
            return
        profile = site.profile
        if profile.recreates or profile.etag_repeats or not site.ahead.pays(self._key):
            return
        # It may outlive the store: a port that was closed answers that nothing was sent.
        self._task = asyncio.create_task(drive_async(_read(site, self._key), world))
        self._task.add_done_callback(_ignore)

    async def wait(self) -> None:
        """
        Wait for a read under way: it ends sooner than one begun now.
        """
        if self._task is not None and not self._task.done():
            await asyncio.wait((self._task,))


def _ignore(task: asyncio.Task[None]) -> None:
    """
    What a port raises here, it raises again where somebody waits for it.
    """
    if not task.cancelled():
        task.exception()


def _read(site: Site, key: str) -> Steps[None]:
    before = (yield from Now()).mono
    answer = yield from Get(key, RPC_TIMEOUT, strong=True)
    if not isinstance(answer, Row):
        return  # the update reads for itself, and says what is wrong
    try:
        seen = site.rows.see(key, answer)
    except CorruptValueError:
        return  # the same
    if intent_of(seen) is None and seen.expires is None:
        site.ahead.put(seen, before)
