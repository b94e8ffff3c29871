"""
A pluggable Dapr state store in this process: in memory, truthful, and sinning exactly when told.

A real sidecar finds it by its socket::

    with StoreComponent() as component:
        with Sidecar(components=[component.resource("statestore")], env=component.environment) as sidecar:
            component.sin("fail_after_apply", key="k7")
            ...
            assert component.sinned["fail_after_apply"] == 1

Start the component first: the sidecar looks for sockets once, when it starts. Needs the package grpcio-reflection, by
which the sidecar asks what the socket serves.

Sins, by name:

- ``fail_after_apply``: a write or transaction is applied and answered with an error.
- ``ack_without_apply``: acknowledged and not applied.
- ``ack_conflict``: a write refused by its ETag or first-write is acknowledged (the raced write of etcd).
- ``partial_transaction``: the refused operations are left out, the others applied, the conflict reported (Redis); with
  nothing to refuse the last operation is left out and the call fails.
- ``partial_transaction_acked``: the same, reported as success.
- ``stale_read``: a read answers the version before the current one.
- ``reused_etag``: the ETags of a key count from 1 again after it was deleted.
- ``frozen_etag``: a write without ETag changes the value and keeps the ETag (CockroachDB v1).
- ``ttl_lag``: an expired row goes on being there, for reads and for creates.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn, Self

import grpc
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
from grpc_reflection.v1alpha import reflection

from toolkit.testing._mvcc import (
    Change,
    MvccStore,
    Sin,
    StoreConflictError,
    StoreFailureError,
    StoreInvalidError,
    Version,
)
from toolkit.testing._proto import common_pb2, state_pb2

PACKAGE: Final = "dapr.proto.components.v1"
FEATURES: Final = ("ETAG", "TRANSACTIONAL", "TTL")

Handler = Callable[[Any, grpc.ServicerContext], Any]


class StoreComponent:
    """
    A state store of type ``state.NAME`` behind a Unix socket.

    Attributes:
        directory: The folder of the socket; a temporary one unless given.
        sinned: How often each sin was committed.
    """

    def __init__(
        self, name: str = "sinful", *, directory: Path | str | None = None, ttl_lag: float = 60.0
    ) -> None:
        self.name = name
        self._given = directory
        self.directory = Path(directory) if directory is not None else Path()
        self._store = MvccStore(ttl_lag=ttl_lag)
        self._server: grpc.Server | None = None

    def __enter__(self) -> Self:
        if self._given is None:
            # The path of a Unix socket is limited to some hundred bytes: not below a test's own long path.
            self.directory = Path(tempfile.mkdtemp(prefix="occ-socket-"))
        socket = self.directory / f"{self.name}.sock"
        socket.unlink(missing_ok=True)
        server = grpc.server(ThreadPoolExecutor(32, thread_name_prefix="store-component"))
        service = _Service(self._store)
        for short, handlers in service.handlers().items():
            server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(f"{PACKAGE}.{short}", handlers),)
            )
        names = [f"{PACKAGE}.{short}" for short in service.handlers()]
        reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], server)
        server.add_insecure_port(f"unix:{socket}")
        server.start()
        self._server = server
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """
        Stop serving; the data stay in this object.
        """
        if self._server is not None:
            self._server.stop(None).wait()
            self._server = None
            if self._given is None:
                shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def environment(self) -> dict[str, str]:
        """
        What a sidecar needs in its environment to find the component.
        """
        return {"DAPR_COMPONENTS_SOCKETS_FOLDER": str(self.directory)}

    def resource(self, name: str = "statestore", metadata: Mapping[str, str] | None = None) -> dict[str, Any]:
        """
        The Dapr component that loads this store under *name*.
        """
        return {
            "apiVersion": "dapr.io/v1alpha1",
            "kind": "Component",
            "metadata": {"name": name},
            "spec": {
                "type": f"state.{self.name}",
                "version": "v1",
                "metadata": [{"name": key, "value": value} for key, value in (metadata or {}).items()],
            },
        }

    # Control ---------------------------------------------------------------------------------------------------------

    def sin(self, sin: Sin, *, key: str = "", times: int | None = 1) -> None:
        """
        Commit *sin* on the next *times* requests whose key holds *key*; ``times=None`` goes on until ``repent``.
        """
        self._store.arm(sin, key, times)

    def repent(self) -> None:
        """
        Sin no more.
        """
        self._store.repent()

    def advance(self, seconds: float) -> None:
        """
        Move the store's clock ahead, for expiry.
        """
        self._store.advance(seconds)

    @property
    def sinned(self) -> Counter[Sin]:
        return self._store.committed

    def versions(self, key: str) -> list[Version]:
        """
        Every version *key* ever had, as the store saw it: with the prefix ``appid||`` of Dapr.
        """
        return self._store.versions(key)


class _Service:
    """
    The protocol of Dapr's pluggable components, on the store.
    """

    def __init__(self, store: MvccStore) -> None:
        self._store = store

    def handlers(self) -> dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]]:
        state: dict[str, tuple[Handler, Any]] = {
            "Init": (lambda _request, _context: state_pb2.InitResponse(), state_pb2.InitRequest),
            "Features": (
                lambda _request, _context: common_pb2.FeaturesResponse(features=FEATURES),
                common_pb2.FeaturesRequest,
            ),
            "Ping": (lambda _request, _context: common_pb2.PingResponse(), common_pb2.PingRequest),
            "Get": (self._get, state_pb2.GetRequest),
            "Set": (self._set, state_pb2.SetRequest),
            "Delete": (self._delete, state_pb2.DeleteRequest),
            "BulkGet": (self._bulk_get, state_pb2.BulkGetRequest),
            "BulkSet": (self._bulk_set, state_pb2.BulkSetRequest),
            "BulkDelete": (self._bulk_delete, state_pb2.BulkDeleteRequest),
        }
        return {
            "StateStore": {name: _method(*pair) for name, pair in state.items()},
            "TransactionalStateStore": {
                "Transact": _method(self._transact, state_pb2.TransactionalStateRequest)
            },
            "TransactionalStoreMultiMaxSize": {
                "MultiMaxSize": _method(
                    lambda _request, _context: state_pb2.MultiMaxSizeResponse(max_size=-1),
                    state_pb2.MultiMaxSizeRequest,
                )
            },
        }

    def _get(self, request: state_pb2.GetRequest, _context: grpc.ServicerContext) -> state_pb2.GetResponse:
        row = self._store.get(request.key)
        if row.data is None:
            return state_pb2.GetResponse()
        return state_pb2.GetResponse(
            data=row.data, etag=state_pb2.Etag(value=row.etag), metadata=_expiry(row)
        )

    def _bulk_get(
        self, request: state_pb2.BulkGetRequest, _context: grpc.ServicerContext
    ) -> state_pb2.BulkGetResponse:
        response = state_pb2.BulkGetResponse()
        for item in request.items:
            row = self._store.get(item.key)
            found = response.items.add(key=item.key)
            if row.data is not None:
                found.data = row.data
                found.etag.value = row.etag
                found.metadata.update(_expiry(row))
        return response

    def _set(self, request: state_pb2.SetRequest, context: grpc.ServicerContext) -> state_pb2.SetResponse:
        self._write(context, _set_change(request))
        return state_pb2.SetResponse()

    def _delete(
        self, request: state_pb2.DeleteRequest, context: grpc.ServicerContext
    ) -> state_pb2.DeleteResponse:
        self._write(context, _delete_change(request))
        return state_pb2.DeleteResponse()

    def _bulk_set(
        self, request: state_pb2.BulkSetRequest, context: grpc.ServicerContext
    ) -> state_pb2.BulkSetResponse:
        for item in request.items:
            self._write(context, _set_change(item))
        return state_pb2.BulkSetResponse()

    def _bulk_delete(
        self, request: state_pb2.BulkDeleteRequest, context: grpc.ServicerContext
    ) -> state_pb2.BulkDeleteResponse:
        for item in request.items:
            self._write(context, _delete_change(item))
        return state_pb2.BulkDeleteResponse()

    def _transact(
        self, request: state_pb2.TransactionalStateRequest, context: grpc.ServicerContext
    ) -> state_pb2.TransactionalStateResponse:
        changes = [
            _set_change(operation.set) if operation.HasField("set") else _delete_change(operation.delete)
            for operation in request.operations
        ]
        self._answered(context, lambda: self._store.transact(changes))
        return state_pb2.TransactionalStateResponse()

    def _write(self, context: grpc.ServicerContext, change: Change) -> None:
        self._answered(context, lambda: self._store.write(change))

    def _answered(self, context: grpc.ServicerContext, work: Callable[[], None]) -> None:
        try:
            work()
        except StoreConflictError as error:
            _refuse(context, grpc.StatusCode.FAILED_PRECONDITION, str(error))
        except StoreInvalidError as error:
            _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except StoreFailureError as error:
            context.abort(grpc.StatusCode.INTERNAL, str(error))


def _method(handler: Handler, request: Any) -> grpc.RpcMethodHandler[Any, Any]:
    def serialize(message: Any) -> bytes:
        data: bytes = message.SerializeToString()
        return data

    return grpc.unary_unary_rpc_method_handler(handler, request.FromString, serialize)


def _refuse(context: grpc.ServicerContext, code: grpc.StatusCode, text: str) -> NoReturn:
    """
    Answer in the form in which Dapr reads an ETag error: one violation of the field ``etag``.
    """
    violation = error_details_pb2.BadRequest.FieldViolation(field="etag", description=text)
    number: int = code.value[0]
    status = status_pb2.Status(code=number, message=text)
    status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(code, text)


def _set_change(request: state_pb2.SetRequest) -> Change:
    ttl = request.metadata.get("ttlInSeconds")
    return Change(
        request.key,
        request.value,
        etag=request.etag.value or None if request.HasField("etag") else None,
        first_write=request.options.concurrency == state_pb2.StateOptions.CONCURRENCY_FIRST_WRITE,
        ttl=int(ttl) if ttl else None,
    )


def _delete_change(request: state_pb2.DeleteRequest) -> Change:
    return Change(request.key, None, etag=request.etag.value or None if request.HasField("etag") else None)


def _expiry(row: Version) -> dict[str, str]:
    if row.expires is None:
        return {}
    return {"ttlExpireTime": datetime.fromtimestamp(row.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
