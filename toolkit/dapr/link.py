"""
The sidecar's API beyond state, for secrets and configuration: one channel, sync calls from any thread.

Both are read seldom and cached by their callers, so the async colour takes a worker thread a call, on asyncio too, and
there is one implementation.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

import grpc

from toolkit._interrupts import let_go
from toolkit.core.model import UNSENT, Reply
from toolkit.core.site import shown
from toolkit.dapr.address import Address, Token
from toolkit.dapr.channel import reply_of, sync_channel
from toolkit.errors import (
    AccessDeniedError,
    SidecarUnavailableError,
    StateError,
    StoreError,
    StoreUnavailableError,
    UnknownStoreError,
)

_POLL: Final = 0.1
_METADATA: Final = 2.0
# A component that is still being initialised shows up in the metadata a moment after the API answers.
_SETTLING: Final = 1.0
# Seconds one read may take, repeats included; a read that is repeated changes nothing.
CALL: Final = 10.0
_AGAIN: Final = frozenset({UNSENT, "UNAVAILABLE"})
_MISSING: Final = ("not found", "failed finding", "not configured")

KINDS: Final[Mapping[str, str]] = {"secretstores": "secret store", "configuration": "configuration store"}


class Link:
    """
    A channel to the sidecar with the token of one ``Dapr`` object.
    """

    def __init__(self, address: Address, token: Token, startup_timeout: float) -> None:
        self.address, self.token, self.startup_timeout = address, token, startup_timeout
        self.closed = threading.Event()
        self._channel: grpc.Channel | None = None
        self._stub: Any = None
        self._pid = 0

    def connect(self, wanted: Mapping[str, str]) -> None:
        """
        Wait for the sidecar, and for the components of these kinds and names.

        With the sidecar's metadata API switched off the first call finds out whether a component is there.

        Raises:
            SidecarUnavailableError: Nobody answered within the time; says the last reason.
            UnknownStoreError: The sidecar has no such component; says which it has.
            StoreError: The sidecar refuses the token.
        """
        from dapr.proto import api_service_v1

        self._channel = sync_channel(self.address)
        self._stub = api_service_v1.DaprStub(self._channel)
        self._pid = os.getpid()
        try:
            self._await_sidecar(wanted)
        except BaseException:
            self.close()
            raise

    def _await_sidecar(self, wanted: Mapping[str, str]) -> None:
        from dapr.proto import api_v1

        started = time.monotonic()
        answered = 0.0
        while True:
            answer = self._try(self._stub.GetMetadata, api_v1.GetMetadataRequest(), _METADATA)
            now = time.monotonic()
            if not isinstance(answer, Reply):
                missing = _missing(wanted, answer)
                answered = answered or now
                if not missing:
                    return
                if now - answered >= min(_SETTLING, self.startup_timeout):
                    raise self._unknown(*missing)
            elif answer.code in ("UNIMPLEMENTED", "NOT_FOUND"):
                return
            elif answer.code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
                raise self._refused(answer)
            elif now - started >= self.startup_timeout:
                raise self._gone(answer, self.startup_timeout)
            if self.closed.wait(_POLL):
                raise RuntimeError("this Dapr object was closed while it waited for the sidecar")

    def _try(self, method: Any, request: Any, timeout: float) -> Any:
        try:
            return method(request, timeout=timeout, metadata=self.token.metadata())
        except grpc.RpcError as error:
            return reply_of(error)
        except ValueError as error:  # the channel was closed under a call, or the token file is not there yet
            return Reply(UNSENT, str(error))
        except BaseException as error:
            let_go(error)
            raise

    def call(self, what: str, store: str, method: str, request: Any) -> Any:
        """
        One read, repeated while the sidecar is away.

        Args:
            what: The kind of component, as ``KINDS`` spells it.
            store: Its name, for errors.
            method: The name of the call.
            request: Its message.

        Returns:
            The answer, or the ``Reply`` of a failure that only the caller can name.
        """
        self.check()
        end = time.monotonic() + CALL
        while True:
            left = end - time.monotonic()
            answer = self._try(getattr(self._stub, method), request, max(left, 0.05))
            if not isinstance(answer, Reply):
                return answer
            if answer.code not in _AGAIN or left <= _POLL or self.closed.is_set():
                break
            self.closed.wait(_POLL)
        error = self.error_of(what, store, answer)
        if error is None:
            return answer
        raise error

    def stream(self, method: str, request: Any) -> Any:
        """
        A call whose answers come one by one until it is cancelled; errors come out of the iteration.
        """
        self.check()
        return getattr(self._stub, method)(request, metadata=self.token.metadata())

    def error_of(self, what: str, store: str, answer: Reply) -> StateError | None:
        """
        What a failure means, whatever was asked; ``None`` for an INTERNAL error, which can mean a missing name.
        """
        text = answer.text.lower()
        if answer.code in _AGAIN:
            return self._gone(answer, CALL)
        if answer.code == "UNAUTHENTICATED":
            return self._refused(answer)
        if answer.code == "PERMISSION_DENIED":
            return AccessDeniedError(
                f"{what} {store!r}: Dapr denies it to this app ({shown(answer)}); check its scopes"
            )
        if answer.code in ("INVALID_ARGUMENT", "FAILED_PRECONDITION") and any(
            part in text for part in _MISSING
        ):
            return UnknownStoreError(
                f"the sidecar at {self.address} has no {what} {store!r} loaded for this app ({shown(answer)})"
            )
        if answer.code == "DEADLINE_EXCEEDED":
            return StoreUnavailableError(
                f"{what} {store!r} did not answer within {CALL:g} s; check its component"
            )
        return None if answer.code == "INTERNAL" else StoreError(f"{what} {store!r} failed ({shown(answer)})")

    def check(self) -> None:
        """
        Refuse a call in the wrong place or time.
        """
        if self._channel is None:
            raise RuntimeError("this Dapr object is not open: use it inside `with Dapr(...) as dapr:`")
        if self._pid != os.getpid():
            raise RuntimeError("this Dapr object was opened before a fork: open one in the child process")

    def close(self) -> None:
        """
        Hang up; calls under way and watches end.
        """
        self.closed.set()
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def _unknown(self, kind: str, name: str, loaded: tuple[str, ...]) -> UnknownStoreError:
        names = ", ".join(loaded) if loaded else "none"
        return UnknownStoreError(
            f"the sidecar at {self.address} has no {KINDS[kind]} {name!r}; loaded for this app: {names}. "
            f"A component with `scopes` for other app ids is not among them; check its name, its scopes and --app-id",
            available=loaded,
        )

    def _refused(self, answer: Reply) -> StoreError:
        return StoreError(
            f"the sidecar at {self.address} refuses the Dapr API token ({answer.code}): check api_token="
        )

    def _gone(self, answer: Reply, seconds: float) -> SidecarUnavailableError:
        return SidecarUnavailableError(
            f"no Dapr sidecar answered at {self.address} within {seconds:g} s ({shown(answer)}); "
            f"start it (`occ run -- CMD`, `dapr run`), or set DAPR_GRPC_ENDPOINT or address="
        )


def _missing(wanted: Mapping[str, str], metadata: Any) -> tuple[str, str, tuple[str, ...]] | None:
    """
    The first wanted component that is not loaded: its kind, its name, and those of its kind that are.
    """
    for kind, name in wanted.items():
        loaded = sorted(
            item.name for item in metadata.registered_components if item.type.startswith(f"{kind}.")
        )
        if name not in loaded:
            return kind, name, tuple(loaded)
    return None
