"""
The disguises of a lost ETag, told by shape: nothing of the Dapr SDK, gRPC or an HTTP client is imported.

The SDK raises ``DaprGrpcError`` with ABORTED from most calls, ``DaprInternalError`` without a code from the async
``save_state``, INTERNAL with a telling text from transactions and creates; raw stubs raise ``RpcError``; HTTP answers 409
or 500.
"""

from __future__ import annotations

from typing import Any, Final, cast

from toolkit.errors import AlreadyExistsError, AttemptsExhaustedError, ConflictError, StateError
from toolkit.stores import profiles
from toolkit.stores.classify import ETAG_MISMATCH

# How any store words a lost ETag, a lost create or a transaction that its database rolled back.
_TEXTS: Final = frozenset(
    text.lower()
    for profile in profiles.values()
    for texts in (
        (ETAG_MISMATCH,),
        profile.conflict_texts,
        profile.multi_conflict_texts,
        profile.create_texts,
        profile.retryable_texts,
    )
    for text in texts
)
# An HTTP 409 can come from anybody; one of the state API says so in its body or its URL.
_STATE_HINTS: Final = ("etag", "err_state", "/v1.0/state/", "/state/")
_DEPTH: Final = 8


def is_conflict(error: BaseException) -> bool:
    """
    Whether an error means that an ETag moved (or that a create found the key), whatever it is dressed as.

    An exception group is a conflict when all its members are.
    """
    for _ in range(_DEPTH):
        if isinstance(error, StateError):
            # These two are final: the loop inside has tried enough, or trying again cannot help.
            final = isinstance(error, AttemptsExhaustedError | AlreadyExistsError)
            return isinstance(error, ConflictError) and not final
        if isinstance(error, BaseExceptionGroup):
            return all(
                is_conflict(part) for part in cast("BaseExceptionGroup[BaseException]", error).exceptions
            )
        verdict = _http_verdict(error)
        if verdict is None:
            verdict = _grpc_verdict(error)
        if verdict is not None:
            return verdict
        cause = error.__cause__
        if cause is None:
            return False
        error = cause
    return False


def _grpc_verdict(error: BaseException) -> bool | None:
    """
    What a gRPC status tells; ``None`` when there is none.
    """
    code = getattr(error, "code", None)
    if not callable(code):
        return None
    name = getattr(code(), "name", None)
    if name == "ABORTED":
        return True
    if name != "INTERNAL":
        return False if isinstance(name, str) else None
    details = getattr(error, "details", None)
    return _worded(str(details() if callable(details) else error))


def _http_verdict(error: BaseException) -> bool | None:
    """
    What an HTTP status tells, of the SDK, requests, httpx, aiohttp or urllib; ``None`` when there is none.
    """
    response = getattr(error, "response", None)
    status = _http_status(error, response)
    if status not in (409, 500):
        return None if status is None else False
    request = getattr(error, "request_info", None)
    told = f"{error} {getattr(error, 'error_code', '')} {_body(response)} {getattr(response, 'url', '')} "
    told += f"{getattr(request, 'real_url', '')} {getattr(error, 'url', '')}"
    return _worded(told) or (status == 409 and any(hint in told.lower() for hint in _STATE_HINTS))


def _http_status(error: BaseException, response: Any) -> int | None:
    places = ((error, "status_code"), (response, "status_code"), (error, "status"), (error, "code"))
    for holder, name in places:
        # One after the other: to look at aiohttp's `code` is a deprecation warning.
        status = getattr(holder, name, None)
        if isinstance(status, int):
            return int(status)
    return None


def _body(response: Any) -> str:
    try:
        return str(getattr(response, "text", ""))
    except Exception:  # noqa: BLE001  httpx: a streamed body nobody has read; the status alone has to do
        return ""


def _worded(text: str) -> bool:
    text = text.lower()
    return any(piece in text for piece in _TEXTS)
