"""
A store behind a real daprd, and a bad line to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.conftest import LiveStore
from tests.faults.crew import STORES
from toolkit.testing.proxy import FaultProxy


@pytest.fixture(params=STORES)
def store_of(request: pytest.FixtureRequest, live_named: Callable[[str], LiveStore]) -> LiveStore:
    return live_named(str(request.param))


@pytest.fixture
def proxy(store_of: LiveStore) -> Iterator[FaultProxy]:
    with FaultProxy(store_of.sidecar.grpc_port, seed=11, late_after=2.0) as proxy:
        yield proxy
