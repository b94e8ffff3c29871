"""
A store behind a real daprd, and a bad line to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.conftest import LiveStore
from tests.faults.crew import STORES
from tests.faults.table import PROPERTY, ROWS, STORE_OF
from toolkit.testing.proxy import FaultProxy


@pytest.fixture(params=STORES)
def store_of(request: pytest.FixtureRequest, live_named: Callable[[str], LiveStore]) -> LiveStore:
    return live_named(str(request.param))


@pytest.fixture
def proxy(store_of: LiveStore) -> Iterator[FaultProxy]:
    with FaultProxy(store_of.sidecar.grpc_port, seed=11, late_after=2.0) as proxy:
        yield proxy


@pytest.fixture
def fired(record_property: Callable[[str, object], None]) -> Callable[[str, str, int], None]:
    """
    Notes how often the fault of a row fired on a store, by the name of its component or server.
    """

    def note(row: str, store: str, count: int) -> None:
        assert row in ROWS
        record_property(PROPERTY, (row, STORE_OF.get(store, store), count))

    return note
