"""
What the tests of ``Dapr`` on a real sidecar share.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from toolkit.sidecar import component

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
SECRETS = {"plain": "p1", "db": {"user": "u1", "password": "p2"}}


def run(backend: str, call: Callable[[], Awaitable[None]]) -> None:
    anyio.run(call, backend=backend)


def secret_store(directory: Path, name: str = "secrets") -> dict[str, Any]:
    path = directory / "secrets.json"
    path.write_text(json.dumps(SECRETS), encoding="utf-8")
    return component(
        name, "secretstores.local.file", metadata={"secretsFile": str(path), "multiValued": "true"}
    )
