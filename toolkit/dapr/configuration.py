"""
Configuration of one store, read and watched through the sidecar.
"""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from toolkit.core.model import Reply
from toolkit.core.site import shown
from toolkit.dapr.link import KINDS, Link
from toolkit.dapr.secrets import InThread
from toolkit.dapr.watch import ConfigItem, Taking, Watch, checked_keys, items_of
from toolkit.errors import StoreError

_WHAT: Final = KINDS["configuration"]


class Configs:
    """
    The configuration of one store, read only.
    """

    def __init__(self, link: Link, store: str) -> None:
        self.link, self.store = link, store

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.store!r}>"

    def get(self, *keys: str) -> dict[str, ConfigItem]:
        """
        Those of the keys that exist; without keys, everything in the store.

        Raises:
            SidecarUnavailableError: No answer within 10 seconds.
        """
        from dapr.proto import api_v1

        request = api_v1.GetConfigurationRequest(store_name=self.store, keys=checked_keys(keys))
        answer = self.link.call(_WHAT, self.store, "GetConfiguration", request)
        if isinstance(answer, Reply):
            raise StoreError(f"{_WHAT} {self.store!r} cannot be read ({shown(answer)})")
        return items_of(answer)

    def watch(self, *keys: str) -> Watch:
        """
        The changes of these keys (of all, without keys) from now on, each as ``dict[str, ConfigItem]``.

        Iterate over it, in a ``with`` block best; ``close()`` from any thread ends the iteration, as closing the
        ``Dapr`` does. It outlives a restart of the sidecar. What a notification missed is found by a look at the store
        every 30 seconds; of several changes in between only the last is seen.

        Raises:
            UnknownStoreError: There is no such configuration store.
        """
        watch = Watch(self, self.link, checked_keys(keys))
        watch.open()
        return watch


class AsyncConfigs:
    """
    ``Configs`` for asyncio and trio; the same names, awaited.
    """

    def __init__(self, configs: Configs, in_thread: InThread) -> None:
        self._configs, self._in_thread, self.store = configs, in_thread, configs.store

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.store!r}>"

    async def get(self, *keys: str) -> dict[str, ConfigItem]:
        """
        See ``Configs.get``.
        """
        found: dict[str, ConfigItem] = await self._in_thread(lambda: self._configs.get(*keys))
        return found

    def watch(self, *keys: str) -> AsyncWatch:
        """
        See ``Configs.watch``; it begins with ``async with``, or else with the first change awaited.

        Cancelling a wait loses no change: the next wait gets it.
        """
        return AsyncWatch(Watch(self._configs, self._configs.link, checked_keys(keys)), self._in_thread)


class AsyncWatch:
    """
    ``Watch`` for asyncio and trio: an async iterator and an async context manager.
    """

    def __init__(self, watch: Watch, in_thread: InThread) -> None:
        self._watch, self._in_thread = watch, in_thread
        self._opened = False

    async def __aenter__(self) -> Self:
        if not self._opened:
            self._opened = True
            try:
                await self._in_thread(self._watch.open)
            except BaseException:
                self._watch.close()
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._watch.close()

    async def aclose(self) -> None:
        """
        End the watch.
        """
        self._watch.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, ConfigItem]:
        await self.__aenter__()
        taking = Taking()
        try:
            change: dict[str, ConfigItem] | None = await self._in_thread(lambda: self._watch.take(taking))
        except BaseException:
            self._watch.call_off(taking)
            raise
        if change is None:
            raise StopAsyncIteration
        return change
