"""
What the tests of transactions through a real daprd share: keys, stores, the faults of the line, and its void rule.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import LiveStore
from toolkit import RetryPolicy, StateStore
from toolkit.core.model import Row
from toolkit.dapr.address import Token, address_of
from toolkit.dapr.port import GrpcPort
from toolkit.sidecar import find
from toolkit.testing.history import export
from toolkit.testing.proxy import Fault, FaultProxy

# Of the draws of the proxy; the clients draw by their own numbers.
SEED: Final = 5
LONG: Final = bool(os.environ.get("OCC_REQUIRE_STORES"))
RATES: Final[dict[Fault, float]] = {
    "drop_reply": 0.08,
    "drop_request": 0.04,
    "duplicate": 0.04,
    "late_duplicate": 0.04,
}
PATIENT: Final = RetryPolicy(deadline=20.0)


def names(count: int) -> list[str]:
    mark = uuid.uuid4().hex[:10]
    return [f"tx-{mark}-{number}" for number in range(count)]


def opened(store: LiveStore, address: str | None = None, **options: Any) -> StateStore:
    return StateStore(store.name, address=address or store.address, retry=PATIENT, **options)


def check_fired(proxy: FaultProxy, least: int) -> None:
    fired: Counter[str] = Counter()
    for (_, fault), number in proxy.faults.items():
        fired[fault] += number
    few = [fault for fault in RATES if fired[fault] < least]
    assert few == [], f"this run is void: {', '.join(few)} fired fewer than {least} times ({dict(fired)})"


def say(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{text}\n")


def keep(config: pytest.Config, file: Path, store: LiveStore, proxy: FaultProxy) -> None:
    """Add a history to the file of ``--history``, with what was done to its calls."""
    target = config.getoption("--history")
    if target:
        faults = [[fired.at, fired.method, fired.fault] for fired in proxy.log]
        versions = {"dapr-occ": version("dapr-occ"), "daprd": find().version}
        export(file, target, store=store.name, seed=SEED, faults=faults, versions=versions)


def raw(store: LiveStore) -> GrpcPort:
    port = GrpcPort(store.name, address_of(store.address), Token(None))
    port.connect(10.0)
    return port


def row(port: GrpcPort, key: str) -> Row:
    found = port.get(key, strong=True, timeout=5)
    assert isinstance(found, Row)
    return found
