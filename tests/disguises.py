"""
The disguises in which a lost ETag surfaces, and errors that only look like one.
"""

from __future__ import annotations

import io
import json
import urllib.error
from collections.abc import Callable
from email.message import Message

import grpc
import httpx
import requests
from dapr.clients.exceptions import DaprGrpcError, DaprHttpError, DaprInternalError
from dapr.serializers import DefaultJSONSerializer

from toolkit import (
    AlreadyExistsError,
    AttemptsExhaustedError,
    ConflictError,
    NotFoundError,
    OutcomeUnknownError,
    StoreUnavailableError,
)


class Refusal(grpc.RpcError):
    """
    What a stub raises, as far as anybody looks at it.
    """

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> tuple[()]:
        return ()


def aio_refusal(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def http_error(status: int, error_code: str, message: str) -> DaprHttpError:
    body = json.dumps({"errorCode": error_code, "message": message}).encode()
    return DaprHttpError(DefaultJSONSerializer(), body, status, "reason")


def httpx_error(status: int, text: str, path: str = "/v1.0/state/s") -> httpx.HTTPStatusError:
    request = httpx.Request("POST", f"http://127.0.0.1:3500{path}")
    return httpx.HTTPStatusError(
        f"status {status}", request=request, response=httpx.Response(status, text=text, request=request)
    )


def requests_error(status: int, text: str) -> requests.HTTPError:
    response = requests.Response()
    response.status_code, response._content, response.url = (
        status,
        text.encode(),
        "http://127.0.0.1:3500/v1.0/state/s",
    )
    return requests.HTTPError(f"{status}", response=response)


def aiohttp_error(status: int, path: str) -> Exception:
    import aiohttp
    from multidict import CIMultiDict, CIMultiDictProxy
    from yarl import URL

    url = URL(f"http://127.0.0.1:3500{path}")
    info = aiohttp.RequestInfo(url, "POST", CIMultiDictProxy(CIMultiDict()), url)
    return aiohttp.ClientResponseError(info, (), status=status, message="")


def urllib_error(status: int, path: str) -> urllib.error.HTTPError:
    return urllib.error.HTTPError(f"http://127.0.0.1:3500{path}", status, "refused", Message(), io.BytesIO())


ABORTED, INTERNAL = grpc.StatusCode.ABORTED, grpc.StatusCode.INTERNAL
MISMATCH = "failed saving state in state store s: possible etag mismatch. error from state store: x"
MULTI = "error while executing state transaction: "

DISGUISES: dict[str, Callable[[], BaseException]] = {
    "sync SDK": lambda: DaprGrpcError(Refusal(ABORTED, MISMATCH)),
    "aio SDK save_state": lambda: caused(DaprInternalError(MISMATCH), aio_refusal(ABORTED, MISMATCH)),
    "aio SDK other calls": lambda: DaprGrpcError(aio_refusal(ABORTED, MISMATCH)),
    "raw stub": lambda: Refusal(ABORTED, ""),
    "raw aio stub": lambda: aio_refusal(ABORTED, ""),
    "transaction": lambda: DaprGrpcError(Refusal(INTERNAL, MULTI + "possible etag mismatch. error")),
    "transaction on Redis": lambda: DaprGrpcError(Refusal(INTERNAL, MULTI + "failed to set key a")),
    "delete in a transaction on Redis": lambda: Refusal(INTERNAL, MULTI + "failed to delete key a"),
    "create on PostgreSQL": lambda: DaprGrpcError(Refusal(INTERNAL, "no item was updated")),
    "create on Redis": lambda: aio_refusal(INTERNAL, "failed to set key a: ERR user_script"),
    "Cosmos DB": lambda: Refusal(INTERNAL, MULTI + "failed with status code 412"),
    "deadlock of the database": lambda: Refusal(INTERNAL, "... SQLSTATE 40P01 ..."),
    "SDK over HTTP": lambda: http_error(409, "ERR_STATE_SAVE", MISMATCH),
    "transaction over HTTP": lambda: http_error(
        500, "ERR_STATE_TRANSACTION", MULTI + "possible etag mismatch."
    ),
    "httpx": lambda: httpx_error(409, MISMATCH),
    "httpx, transaction": lambda: httpx_error(500, MULTI + "no item was updated"),
    "requests": lambda: requests_error(409, MISMATCH),
    "aiohttp": lambda: aiohttp_error(409, "/v1.0/state/s"),
    "urllib": lambda: urllib_error(409, "/v1.0/state/s"),
    "the toolkit's own": lambda: ConflictError("lost"),
    "wrapped by the application": lambda: caused(KeyError("x"), DaprGrpcError(Refusal(ABORTED, MISMATCH))),
    "several tasks": lambda: ExceptionGroup("g", [Refusal(ABORTED, ""), ConflictError("lost")]),
}


def made(table: dict[str, Callable[[], BaseException]], name: str) -> BaseException:
    return table[name]()


OTHERS: dict[str, Callable[[], BaseException]] = {
    "exhausted": lambda: AttemptsExhaustedError("lost 3"),
    "exists": lambda: AlreadyExistsError("there"),
    "exhausted, from a conflict": lambda: caused(
        AttemptsExhaustedError("lost 3"), Refusal(ABORTED, MISMATCH)
    ),
    "wrapped exhausted": lambda: caused(ValueError("x"), AttemptsExhaustedError("lost 3")),
    "unknown outcome": lambda: OutcomeUnknownError("who knows"),
    "missing": lambda: NotFoundError("gone"),
    "unavailable": lambda: caused(StoreUnavailableError("away"), Refusal(ABORTED, MISMATCH)),
    "timeout": lambda: DaprGrpcError(Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "possible etag mismatch")),
    "sidecar away": lambda: aio_refusal(grpc.StatusCode.UNAVAILABLE, "connection refused"),
    "invalid ETag": lambda: DaprGrpcError(Refusal(grpc.StatusCode.INVALID_ARGUMENT, "invalid etag value")),
    "any other INTERNAL": lambda: DaprGrpcError(Refusal(INTERNAL, "disk full")),
    "no cause": lambda: DaprInternalError("something"),
    "HTTP 500": lambda: http_error(500, "ERR_STATE_SAVE", "disk full"),
    "HTTP 400": lambda: http_error(400, "ERR_STATE_SAVE", "invalid etag"),
    "somebody else's 409": lambda: httpx_error(409, "user exists", "/users"),
    "somebody else's 409, aiohttp": lambda: aiohttp_error(409, "/users"),
    "an error of the function": lambda: ValueError("possible etag mismatch"),
    "several tasks, one of them different": lambda: ExceptionGroup("g", [Refusal(ABORTED, ""), ValueError()]),
}
