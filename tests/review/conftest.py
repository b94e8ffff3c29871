"""
Small logs with a known truth.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from toolkit.review.simulate import Truth, Workload, write_logs

BASE: dict[str, Any] = {
    "v": 1,
    "level": "info",
    "app": "shop",
    "inst": "h:1",
    "store": "s",
    "op": "update",
    "attempt": 1,
}


def at(seconds: float) -> str:
    minute, second = divmod(seconds, 60)
    return f"2026-01-05T09:{int(minute):02d}:{second:09.6f}Z"


def lost(seconds: float, key: str = "k", writer: str = "b", **more: Any) -> dict[str, Any]:
    times = {"read_s": 0.001, "fn_s": 0.0, "write_s": 0.001, "lost_s": 0.002, "wait_s": 0.004}
    return (
        BASE
        | {
            "event": "occ.conflict",
            "timestamp": at(seconds),
            "key": key,
            "writer": writer,
            "cause": "etag_mismatch",
        }
        | times
        | more
    )


def won(seconds: float, key: str = "k", writer: str = "a", **more: Any) -> dict[str, Any]:
    times = {
        "read_s": 0.001,
        "fn_s": 0.0,
        "write_s": 0.001,
        "total_s": 0.002,
        "path": "single",
        "combined": 1,
    }
    return (
        BASE
        | {"event": "occ.committed", "timestamp": at(seconds), "key": key, "writer": writer}
        | times
        | more
    )


def failed(seconds: float, key: str = "k", writer: str = "b", **more: Any) -> dict[str, Any]:
    return BASE | {"event": "occ.gave_up", "level": "error", "timestamp": at(seconds), "key": key, "writer": writer, "reason": "attempts",
                   "error_type": "AttemptsExhaustedError", "total_s": 0.05, "lost_s": 0.006} | more  # fmt: skip


def write(path: Path, lines: Iterable[dict[str, Any] | bytes | str]) -> str:
    with path.open("wb") as file:
        for line in lines:
            raw = (
                line
                if isinstance(line, bytes)
                else line.encode()
                if isinstance(line, str)
                else json.dumps(line).encode()
            )
            file.write(raw + b"\n")
    return str(path)


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Truth]:
    """
    One file of a busy minute, with give-ups and a writer that logs nothing.
    """
    path = tmp_path_factory.mktemp("log") / "busy.jsonl"
    truth = write_logs(
        Workload(operations=6_000, keys=60, rate=500.0, outside=0.02, max_attempts=5), str(path)
    )
    return str(path), truth
