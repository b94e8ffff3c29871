"""
Channels to the sidecar: no interceptors, no retries of gRPC's own, quick to come back after a restart.
"""

from __future__ import annotations

from typing import Any, Final

import anyio.lowlevel
import grpc

from toolkit.core.model import UNSENT, Reply, Write
from toolkit.dapr.address import Address
from toolkit.ports import Component

# One layer owns conflicts. A request that gRPC sends again by itself comes back as a conflict with ourselves.
OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.max_send_message_length", 64 * 1024 * 1024),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)

STRONG: Final = 2
EVENTUAL: Final = 1

# What gRPC says when no connection could be made: the request never left this process.
_NOT_CONNECTED: Final = "failed to connect to all addresses"


def sync_channel(address: Address) -> grpc.Channel:
    """
    A channel for the sync colour.
    """
    if address.tls:
        return grpc.secure_channel(address.target, grpc.ssl_channel_credentials(), options=OPTIONS)
    return grpc.insecure_channel(address.target, options=OPTIONS)


def aio_channel(address: Address) -> grpc.aio.Channel:
    """
    A channel for the running asyncio loop.
    """
    if address.tls:
        return grpc.aio.secure_channel(address.target, grpc.ssl_channel_credentials(), options=OPTIONS)
    return grpc.aio.insecure_channel(address.target, options=OPTIONS)


def reply_of(error: grpc.RpcError) -> Reply:
    """
    A failed call as an answer.
    """
    code: str = error.code().name
    text: str = error.details() or ""
    if code == "UNAVAILABLE" and text.startswith(_NOT_CONNECTED):
        return Reply(UNSENT, text)
    return Reply(code, text)


async def scope_cancelled() -> None:
    """
    Raise the cancellation of a scope of anyio, where that is what cut a call; one of the task itself goes on as it came.

    grpc.aio raises a CancelledError of its own for the one it was sent (grpc/grpc#43502). A scope does not know that one
    for its own: ``move_on_after`` around the call would let it out.
    """
    await anyio.lowlevel.checkpoint_if_cancelled()


class Requests:
    """
    The messages of the state API for one store.
    """

    def __init__(self, store: str) -> None:
        from dapr.proto import api_v1, common_v1

        self._api, self._common, self.store = api_v1, common_v1, store

    def get(self, key: str, *, strong: bool) -> Any:
        consistency = STRONG if strong else EVENTUAL
        return self._api.GetStateRequest(store_name=self.store, key=key, consistency=consistency)  # type: ignore[arg-type]

    def bulk(self, keys: tuple[str, ...]) -> Any:
        # The SDK's default parallelism of 1 reads one by one on stores without a native bulk get.
        return self._api.GetBulkStateRequest(store_name=self.store, keys=keys, parallelism=0)

    def _fill(self, item: Any, write: Write) -> None:
        """
        Say a write in an item made in its place: one that is put into a message later is copied there.
        """
        item.key, item.value = write.key, write.data or b""
        if write.etag is not None:
            if not write.etag:
                raise ValueError(f"key {write.key!r}: an empty ETag would be an unconditional write")
            item.etag.value = write.etag
        if write.first_write:
            item.options.concurrency = self._common.StateOptions.CONCURRENCY_FIRST_WRITE
        if write.ttl is not None:
            item.metadata["ttlInSeconds"] = str(write.ttl)

    def save(self, write: Write) -> Any:
        # One item a call: several are parallel single writes whose error does not say which of them failed.
        request = self._api.SaveStateRequest(store_name=self.store)
        self._fill(request.states.add(), write)
        return request

    def delete(self, write: Write) -> Any:
        request = self._api.DeleteStateRequest(store_name=self.store, key=write.key)
        if write.etag is not None:
            request.etag.value = write.etag
        return request

    def multi(self, writes: tuple[Write, ...]) -> Any:
        request = self._api.ExecuteStateTransactionRequest(storeName=self.store)
        for write in writes:
            operation = request.operations.add(operationType="delete" if write.data is None else "upsert")
            self._fill(operation.request, write)
        return request


def component_of(store: str, metadata: Any) -> tuple[Component | None, tuple[str, ...]]:
    """
    What the sidecar's metadata says of a store, and the names of all state stores it has loaded.
    """
    stores = [item for item in metadata.registered_components if item.type.startswith("state.")]
    names = tuple(sorted(item.name for item in stores))
    for item in stores:
        if item.name == store:
            return Component(store, item.type, item.version or "v1", tuple(item.capabilities)), names
    return None, names
