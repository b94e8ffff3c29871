"""
Watching configuration: notifications in a thread, a look at the store now and then, changes in a queue.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import grpc

from toolkit.core.model import Reply
from toolkit.core.site import shown
from toolkit.dapr.channel import reply_of
from toolkit.dapr.link import CALL, KINDS, Link
from toolkit.errors import StateError, StoreError

if TYPE_CHECKING:
    from toolkit.dapr.configuration import Configs

_WHAT: Final = KINDS["configuration"]
_BACKOFF: Final = 0.2
# A subscription is confirmed before the store's component listens (Redis), so one look follows soon after.
FIRST_LOOK: Final = 1.0
# Notifications are at most once: a look now and then finds what they missed.
NEXT_LOOK: Final = 30.0


@dataclass(frozen=True, slots=True)
class ConfigItem:
    """
    One item of configuration; all empty when a watch tells that it was removed.
    """

    value: str
    version: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


_REMOVED: Final = ConfigItem("")


class Taking:
    """
    One consumer's wait for a change, which can be called off without losing the change.
    """

    __slots__ = ("change", "off")

    def __init__(self) -> None:
        self.off = False
        self.change: dict[str, ConfigItem] | None = None


class Watch:
    """
    Changes of configuration, as they come; an iterator and a context manager, safe to share between threads.

    A thread of its own reads the notifications; whoever takes a change also looks at the store when it is time.
    """

    def __init__(self, configs: Configs, link: Link, keys: tuple[str, ...]) -> None:
        self.keys = keys
        self._configs, self._link = configs, link
        self._news = threading.Condition()
        self._changes: deque[dict[str, ConfigItem]] = deque()
        self._known: dict[str, ConfigItem] = {}
        self._error: StateError | None = None
        self._closed = self._subscribed = False
        self._call: Any = None
        self._look_at = float("inf")
        self._pushes = 0
        self._interval = FIRST_LOOK

    def open(self) -> None:
        """
        Subscribe, and remember what stands there now.
        """
        self._link.check()
        threading.Thread(target=self._read, name=f"occ-watch-{self._configs.store}", daemon=True).start()
        try:
            with self._news:
                self._news.wait_for(lambda: self._subscribed or self._error or self._closed, CALL)
                if self._error is not None:
                    raise self._error
            found = self._configs.get(*self.keys)
        except BaseException:
            self.close()
            raise
        with self._news:
            # What was heard meanwhile is newer than what was found, or the same.
            self._known = {**found, **self._known}
            self._look_at = time.monotonic() + self._interval

    def close(self) -> None:
        """
        End the watch, from any thread; closing twice is fine.
        """
        with self._news:
            self._closed = True
            call, self._call = self._call, None
            self._news.notify_all()
        if call is not None:
            call.cancel()

    def take(self, taking: Taking) -> dict[str, ConfigItem] | None:
        """
        Wait for the next change; ``None`` once the watch is closed or the taking called off.
        """
        while True:
            with self._news:
                while not taking.off:
                    if self._changes:
                        taking.change = self._changes.popleft()
                        return taking.change
                    if self._error is not None:
                        raise self._error
                    if self._closed:
                        return None
                    wait = self._look_at - time.monotonic()
                    if wait <= 0:
                        # Pushed on before the look, so that of several takers one looks.
                        self._interval, self._look_at = NEXT_LOOK, time.monotonic() + NEXT_LOOK
                        break
                    self._news.wait(min(wait, NEXT_LOOK))
                if taking.off:
                    return None
            self._look()

    def call_off(self, taking: Taking) -> None:
        """
        End the wait of one consumer; a change it has just been given goes back to the front.
        """
        with self._news:
            taking.off = True
            if taking.change is not None:
                self._changes.appendleft(taking.change)
                taking.change = None
            self._news.notify_all()

    def _look(self) -> None:
        heard = self._pushes
        try:
            found = self._configs.get(*self.keys)
        except (StateError, RuntimeError):
            # The reader meets the same failure, tries again for longer, and reports it when it lasts.
            return
        with self._news:
            if self._pushes != heard:
                # A notification overtook the look, whose answer may be the older one.
                self._look_at = time.monotonic() + FIRST_LOOK
                return
            gone = {key: _REMOVED for key in self._known if key not in found}
            self._push({**found, **gone})

    def _push(self, items: dict[str, ConfigItem]) -> None:
        """
        Queue what differs from what was known.
        """
        with self._news:
            known = self._known
            changed = {key: item for key, item in items.items() if known.get(key, _REMOVED) != item}
            if changed:
                self._pushes += 1
                known.update(changed)
                self._changes.append(changed)
                self._news.notify_all()

    # -- the thread that reads -------------------------------------------------------------------------------------

    def _read(self) -> None:
        """
        Follow the notifications until closed, over restarts of the sidecar.
        """
        failing_since: float | None = None
        while not self._ended():
            answer = self._follow()
            if self._ended():
                break
            error = self._link.error_of(_WHAT, self._configs.store, answer)
            now = time.monotonic()
            with self._news:
                if self._subscribed:
                    failing_since = None
                self._subscribed = False
            failing_since = failing_since or now
            lasting = now - failing_since > self._link.startup_timeout
            if lasting or answer.code not in ("UNAVAILABLE", "UNSENT", "CANCELLED", "OK", "UNKNOWN"):
                self._fail(
                    error or StoreError(f"{_WHAT} {self._configs.store!r}: the watch broke ({shown(answer)})")
                )
                return
            self._link.closed.wait(_BACKOFF)
        self.close()

    def _ended(self) -> bool:
        return self._closed or self._link.closed.is_set()

    def _follow(self) -> Reply:
        """
        One subscription to its end; says how it ended.
        """
        from dapr.proto import api_v1

        request = api_v1.SubscribeConfigurationRequest(store_name=self._configs.store, keys=self.keys)
        try:
            call = self._link.stream("SubscribeConfiguration", request)
            with self._news:
                if self._closed:
                    call.cancel()
                    return Reply("CANCELLED")
                self._call = call
            for answer in call:
                self._heard(answer)
        except grpc.RpcError as error:
            return reply_of(error)
        except (ValueError, RuntimeError) as error:  # the channel was closed under the call
            return Reply("UNSENT", str(error))
        return Reply()

    def _heard(self, answer: Any) -> None:
        with self._news:
            if not self._subscribed:
                self._subscribed = True
                if self._look_at != float("inf"):  # back after a break: find out soon what was missed
                    self._look_at = time.monotonic()
                self._interval = FIRST_LOOK
                self._news.notify_all()
        self._push(items_of(answer))

    def _fail(self, error: StateError) -> None:
        with self._news:
            self._error = error
            self._news.notify_all()

    # -- the sync surface ------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[dict[str, ConfigItem]]:
        return self

    def __next__(self) -> dict[str, ConfigItem]:
        change = self.take(Taking())
        if change is None:
            raise StopIteration
        return change

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()


def items_of(answer: Any) -> dict[str, ConfigItem]:
    """
    The items of an answer.
    """
    return {
        key: ConfigItem(item.value, item.version, dict(item.metadata)) for key, item in answer.items.items()
    }


def checked_keys(keys: tuple[str, ...]) -> tuple[str, ...]:
    """
    Refuse what names no item.
    """
    for key in keys:
        if not isinstance(key, str) or not key:
            raise TypeError(
                f"a configuration key is a non-empty text, not {key!r}; for all of them leave the keys out"
            )
    return keys
