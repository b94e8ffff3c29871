"""
What the code around a call knows: its workflow, its actor, its request.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

_bound: ContextVar[Mapping[str, Any] | None] = ContextVar("occ_log_context", default=None)

# An application may bind anything to its own logs; these words never reach ours.
_SECRET_WORDS: Final = (
    "token",
    "password",
    "passwd",
    "secret",
    "authorization",
    "cookie",
    "api_key",
    "apikey",
)
MAX_TEXT: Final = 2048


@contextmanager
def bind(**fields: str | float | bool) -> Generator[None]:
    """
    Add fields such as ``workflow_id`` to every event emitted inside the block, in this task or thread.

    Only scalars, and nothing whose name sounds like a secret.
    """
    token = _bound.set({**(_bound.get() or {}), **_harmless(fields)})
    try:
        yield
    finally:
        _bound.reset(token)


def bound_here() -> Mapping[str, Any]:
    """
    The fields of the enclosing ``bind`` blocks.
    """
    return _bound.get() or {}


def structlog_configured() -> bool:
    """
    Whether the application has configured structlog; asked without importing it, which costs tens of milliseconds.
    """
    module = sys.modules.get("structlog")
    return module is not None and bool(module.is_configured())


def _structlog_bound() -> Mapping[str, Any]:
    module = sys.modules.get("structlog")
    bound: Mapping[str, Any] = module.contextvars.get_contextvars() if module is not None else {}
    return bound


def everything_bound() -> Mapping[str, Any]:
    """
    What structlog and ``bind`` hold here; only scalars, and nothing whose name sounds like a secret.
    """
    bound, theirs = bound_here(), _structlog_bound()
    return {**_harmless(theirs), **bound} if theirs else bound


def _harmless(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value[:MAX_TEXT] if isinstance(value, str) else value
        for name, value in fields.items()
        if isinstance(value, (str, int, float, bool)) and not _sounds_secret(name)
    }


def _sounds_secret(name: str) -> bool:
    lowered = name.lower()
    return any(word in lowered for word in _SECRET_WORDS)


def active_span() -> dict[str, str]:
    """
    The ids of the active OpenTelemetry span; empty unless the application has loaded OpenTelemetry.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return {}
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": format(context.trace_id, "032x"), "span_id": format(context.span_id, "016x")}
