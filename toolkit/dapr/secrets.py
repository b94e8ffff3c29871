"""
Secrets of one secret store, read through the sidecar; never cached, never logged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

from toolkit.core.model import Reply
from toolkit.core.site import shown
from toolkit.dapr.link import KINDS, Link
from toolkit.errors import NotFoundError, StoreError

_WHAT: Final = KINDS["secretstores"]
# Runs a blocking function in a worker thread.
InThread: TypeAlias = Callable[[Callable[[], Any]], Awaitable[Any]]


class Secrets:
    """
    The secrets of one store, read only.
    """

    def __init__(self, link: Link, store: str) -> None:
        self._link, self.store = link, store

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.store!r}>"

    def get(self, name: str, *, metadata: Mapping[str, str] | None = None) -> dict[str, str]:
        """
        The parts of one secret; most stores keep one part, under the name of the secret.

        Args:
            name: The secret. The store for development ``secretstores.local.env`` answers an empty text for a
                variable that is not set.
            metadata: What the store's component takes, such as ``version_id``.

        Raises:
            NotFoundError: The store has no such secret.
            AccessDeniedError: Dapr's secret scopes deny it to this app.
            SidecarUnavailableError: No answer within 10 seconds.
        """
        from dapr.proto import api_v1

        if not isinstance(name, str) or not name:
            raise TypeError(f"secrets.get({name!r}): the name of a secret, as text")
        request = api_v1.GetSecretRequest(store_name=self.store, key=name, metadata=dict(metadata or {}))
        answer = self._link.call(_WHAT, self.store, "GetSecret", request)
        if isinstance(answer, Reply):
            if "not found" in answer.text.lower():
                raise NotFoundError(f"{_WHAT} {self.store!r} has no secret {name!r}", key=name)
            raise StoreError(f"{_WHAT} {self.store!r}: secret {name!r} cannot be read ({shown(answer)})")
        return dict(answer.data)

    def get_all(self, *, metadata: Mapping[str, str] | None = None) -> dict[str, dict[str, str]]:
        """
        All secrets this app may read, each with its parts.
        """
        from dapr.proto import api_v1

        request = api_v1.GetBulkSecretRequest(store_name=self.store, metadata=dict(metadata or {}))
        answer = self._link.call(_WHAT, self.store, "GetBulkSecret", request)
        if isinstance(answer, Reply):
            raise StoreError(f"{_WHAT} {self.store!r}: its secrets cannot be read ({shown(answer)})")
        return {name: dict(found.secrets) for name, found in answer.data.items()}


class AsyncSecrets:
    """
    ``Secrets`` for asyncio and trio; the same names, awaited.
    """

    def __init__(self, secrets: Secrets, in_thread: InThread) -> None:
        self._secrets, self._in_thread, self.store = secrets, in_thread, secrets.store

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.store!r}>"

    async def get(self, name: str, *, metadata: Mapping[str, str] | None = None) -> dict[str, str]:
        """
        See ``Secrets.get``.
        """
        found: dict[str, str] = await self._in_thread(lambda: self._secrets.get(name, metadata=metadata))
        return found

    async def get_all(self, *, metadata: Mapping[str, str] | None = None) -> dict[str, dict[str, str]]:
        """
        See ``Secrets.get_all``.
        """
        found: dict[str, dict[str, str]] = await self._in_thread(
            lambda: self._secrets.get_all(metadata=metadata)
        )
        return found
