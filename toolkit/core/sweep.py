"""
Expired rows that stand in the way: they read as missing and still refuse a create, until the store collects them.

Only a plain writer's ``ttlInSeconds`` leaves such a row; the toolkit sends none to these stores. Nobody knows its ETag,
so it can only be deleted without a condition. What makes that safe is a guard record: whoever deletes moves it in the
same transaction of the store, from the version read *before* the row was last seen to be missing and refusing. So a
second deleter, who has not seen what the first one's creator wrote since, fails. A delete that was not answered may still
be under way, so its sender moves the guard before anything is created. What remains is the store's own collection at that
very moment, followed by a create, both between the last look and the delete.
"""

from __future__ import annotations

from typing import Final

from toolkit.core.model import Row, Write
from toolkit.core.site import Site
from toolkit.core.steps import Get, Multi, Put, Steps
from toolkit.stores import Call, Verdict, cas_write, create_write

GUARD_KEY: Final = "_occ-sweep"

_TRIES: Final = 4


class Ghost:
    """
    What one create does about an expired row under its key: look at the guard, look again at the row, delete it.
    """

    __slots__ = ("_guard", "_key", "_possible", "_site")

    def __init__(self, site: Site, key: str, call: Call) -> None:
        profile = site.profile
        self._site, self._key = site, key
        self._guard: Row | None = None
        self._possible = call is Call.CREATE and profile.ghosts and profile.native != "none"

    def refused(self, verdict: Verdict, timeout: float) -> Steps[None]:
        """
        The create was refused and the key reads as missing; to be told each time, before the create is sent again.
        """
        if not self._possible or verdict is not Verdict.CONFLICT:
            return
        if self._guard is None:
            answer = yield from Get(GUARD_KEY, timeout)
            self._guard = answer if isinstance(answer, Row) else None
            return
        guard, self._guard = self._guard, None
        reply = yield from Multi((self._moved(guard), Write(self._key, None)), timeout)
        if not reply.ok:
            yield from self._fence(guard, timeout)
        # Whatever became of it: the create that follows finds out.

    def _fence(self, guard: Row, timeout: float) -> Steps[None]:
        """
        Make sure that a delete which has not arrived never will.
        """
        for _ in range(_TRIES):
            now = yield from Get(GUARD_KEY, timeout)
            if isinstance(now, Row) and now.etag != guard.etag:
                return
            yield from Put(self._moved(guard), timeout)

    def _moved(self, guard: Row) -> Write:
        profile = self._site.profile
        if guard.missing:
            return create_write(profile, GUARD_KEY, b'{"n":1}')
        return cas_write(profile, GUARD_KEY, b'{"n":1}', guard.etag)
