"""
Each test begins with nobody listening and leaves nobody behind.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from toolkit.core.events import Event
from toolkit.log import _emitter

CONFLICT: dict[str, Any] = {
    "store": "statestore", "op": "rename", "call_id": "00c0ffee00c0ffee", "op_id": "msg-17", "key": "user-17",
    "base_etag": "41", "seen_etag": "42", "attempt": 1, "max_attempts": 0, "read_s": 0.0012345678, "fn_s": 1e-5,
    "write_s": 0.002, "lost_s": 0.0032445, "wait_s": 0.01, "cause": "etag_mismatch", "transport": "grpc",
    "status": "ABORTED", "winner": "a1b2c3d4e5f60718-2a", "winner_kind": "committed",
}  # fmt: skip
COMMITTED: dict[str, Any] = {
    "store": "statestore", "op": "rename", "call_id": "0123456789abcdef", "key": "user-17", "write_id": "a1b2c3d4e5f60718-2a",
    "path": "single", "combined": 3, "attempt": 1, "base_etag": "41", "read_s": 0.001, "fn_s": 0.0, "write_s": 0.002,
    "lost_s": 0.0, "wait_s": 0.0, "total_s": 0.003, "conflicts": 0, "bytes": 180,
}  # fmt: skip
GAVE_UP: dict[str, Any] = {
    "store": "statestore", "op": "rename", "call_id": "00c0ffee00c0ffee", "key": "user-17", "attempt": 3, "conflicts": 3,
    "max_attempts": 3, "reason": "attempts", "error_type": "AttemptsExhaustedError", "cause": "etag_mismatch",
    "lost_s": 0.01, "wait_s": 0.03, "total_s": 0.05,
}  # fmt: skip


def conflict(**fields: Any) -> Event:
    return Event("occ.conflict", CONFLICT | fields)


def committed(**fields: Any) -> Event:
    return Event("occ.committed", COMMITTED | fields)


def gave_up(**fields: Any) -> Event:
    return Event("occ.gave_up", GAVE_UP | fields)


def lines_of(path: Path | str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("", "_KEYS", "_SECRET", "_SAMPLE", "_SUMMARY", "_TEMPLATES", "_APP", "_WRITER"):
        monkeypatch.delenv(f"OCC_LOG{name}", raising=False)
    monkeypatch.delenv("APP_ID", raising=False)
    before = _emitter._State.pipeline, _emitter._State.environment_read, _emitter._State.hooks
    _emitter._State.pipeline, _emitter._State.environment_read, _emitter._State.hooks = None, False, ()
    _emitter._complained.clear()
    yield
    if _emitter._State.pipeline is not None:
        _emitter._State.pipeline.close()
    _emitter._State.pipeline, _emitter._State.environment_read, _emitter._State.hooks = before
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
