"""
The state API as it really is, for probes that send what the toolkit itself never sends.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import grpc
from dapr.proto import api_service_v1, api_v1, common_v1

from toolkit.core.model import OK, Reply

_STRONG: Final = common_v1.StateOptions.CONSISTENCY_STRONG
_UPSERT: Final = "upsert"
_DELETE: Final = "delete"


class Concurrency(enum.Enum):
    """
    Dapr's concurrency option.
    """

    UNSPECIFIED = "unspecified"
    FIRST_WRITE = "first-write"
    LAST_WRITE = "last-write"


_CONCURRENCY: Final = {
    Concurrency.UNSPECIFIED: common_v1.StateOptions.CONCURRENCY_UNSPECIFIED,
    Concurrency.FIRST_WRITE: common_v1.StateOptions.CONCURRENCY_FIRST_WRITE,
    Concurrency.LAST_WRITE: common_v1.StateOptions.CONCURRENCY_LAST_WRITE,
}


@dataclass(frozen=True, slots=True)
class Found:
    """
    What a read gave: unlike a ``Row`` it can tell a value without an ETag (a store without ETags) from a missing key.
    """

    data: bytes = b""
    etag: str = ""
    expires: str = ""
    error: Reply | None = None

    @property
    def present(self) -> bool:
        return bool(self.data or self.etag)


@dataclass(frozen=True, slots=True)
class Op:
    """
    One operation of a call; ``data=None`` deletes. An empty ETag is sent as such, ``None`` sends none.
    """

    key: str
    data: bytes | None
    etag: str | None = None
    concurrency: Concurrency = Concurrency.UNSPECIFIED
    ttl: int | None = None


@dataclass(frozen=True, slots=True)
class About:
    """
    What the sidecar says of itself and of one component.

    Attributes:
        runtime: The version of daprd.
        type: The component type, empty when the sidecar has loaded no component of this name.
        capabilities: What the component claims; ``None`` when nobody could be asked.
        loaded: The names of all state stores it has loaded.
        policies: The names of the resiliency policies it has loaded.
    """

    runtime: str
    type: str
    version: str
    capabilities: tuple[str, ...] | None
    loaded: tuple[str, ...]
    policies: tuple[str, ...]


class Wire(Protocol):
    """
    One state store, raw; safe to call from many threads.
    """

    def about(self) -> About: ...
    def get(self, key: str) -> Found: ...
    def get_bulk(self, keys: Sequence[str]) -> dict[str, Found]: ...
    def send(self, op: Op) -> Reply: ...
    def multi(self, ops: Sequence[Op]) -> Reply: ...


class GrpcWire:
    """
    The wire through a sidecar.

    Args:
        channel: An open gRPC channel to the sidecar; it stays the caller's.
        store: The name of the component.
        token: Pairs of call metadata that carry the API token, if any.
        timeout: Seconds each call may take.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        store: str,
        *,
        token: Sequence[tuple[str, str]] = (),
        timeout: float = 10.0,
    ) -> None:
        stub: Any = api_service_v1.DaprStub
        self._stub = stub(channel)
        self._store, self._metadata, self._timeout = store, tuple(token), timeout

    def about(self) -> About:
        """
        Ask the sidecar what it has loaded.

        Raises:
            grpc.RpcError: The sidecar does not answer, or its metadata API is switched off.
        """
        answer = self._stub.GetMetadata(
            api_v1.GetMetadataRequest(), timeout=self._timeout, metadata=self._metadata
        )
        components = [c for c in answer.registered_components if c.type.startswith("state.")]
        mine = next((c for c in components if c.name == self._store), None)
        return About(
            runtime=answer.runtime_version or answer.extended_metadata.get("daprRuntimeVersion", "unknown"),
            type=mine.type if mine else "",
            version=mine.version if mine else "",
            capabilities=tuple(sorted(mine.capabilities)) if mine else (),
            loaded=tuple(sorted(c.name for c in components)),
            policies=tuple(sorted(r.name for r in answer.resiliencies)),
        )

    def get(self, key: str) -> Found:
        request = api_v1.GetStateRequest(store_name=self._store, key=key, consistency=_STRONG)
        try:
            answer = self._stub.GetState(request, timeout=self._timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            return Found(error=_reply(error))
        return Found(answer.data, answer.etag, answer.metadata.get("ttlExpireTime", ""))

    def get_bulk(self, keys: Sequence[str]) -> dict[str, Found]:
        request = api_v1.GetBulkStateRequest(store_name=self._store, keys=list(keys), parallelism=4)
        try:
            answer = self._stub.GetBulkState(request, timeout=self._timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            return {key: Found(error=_reply(error)) for key in keys}
        return {
            item.key: Found(item.data, item.etag, error=Reply("INTERNAL", item.error) if item.error else None)
            for item in answer.items
        }

    def send(self, op: Op) -> Reply:
        if op.data is None:
            request = api_v1.DeleteStateRequest(store_name=self._store, key=op.key, options=_options(op))
            if op.etag is not None:
                request.etag.CopyFrom(common_v1.Etag(value=op.etag))
            return self._call(self._stub.DeleteState, request)
        return self._call(
            self._stub.SaveState, api_v1.SaveStateRequest(store_name=self._store, states=[_item(op)])
        )

    def multi(self, ops: Sequence[Op]) -> Reply:
        operations = [
            api_v1.TransactionalStateOperation(
                operationType=_DELETE if op.data is None else _UPSERT, request=_item(op)
            )
            for op in ops
        ]
        request = api_v1.ExecuteStateTransactionRequest(storeName=self._store, operations=operations)
        return self._call(self._stub.ExecuteStateTransaction, request)

    def _call(self, method: Any, request: Any) -> Reply:
        try:
            method(request, timeout=self._timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            return _reply(error)
        return OK


def _options(op: Op) -> Any:
    return common_v1.StateOptions(concurrency=_CONCURRENCY[op.concurrency], consistency=_STRONG)


def _item(op: Op) -> Any:
    item = common_v1.StateItem(key=op.key, value=op.data or b"", options=_options(op))
    if op.etag is not None:
        # CopyFrom, since an empty text has to arrive as an ETag that is there and empty.
        item.etag.CopyFrom(common_v1.Etag(value=op.etag))
    if op.ttl is not None:
        item.metadata["ttlInSeconds"] = str(op.ttl)
    return item


def _reply(error: grpc.RpcError) -> Reply:
    call: Any = error  # grpc's stubs declare no code() on what the stubs in fact raise
    return Reply(call.code().name, call.details() or "")
