"""
Each test in both colours, on each way to commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import LiveStore
from tests.faults.crew import STORES
from tests.transactions.colours import COLOURS, PROFILES, Scenario, run
from tests.transactions.live import SEED
from toolkit.testing.memory import MemoryStore
from toolkit.testing.proxy import FaultProxy


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=PROFILES)
def port(request: pytest.FixtureRequest) -> MemoryStore:
    return MemoryStore(str(request.param))


@pytest.fixture
def play(colour: str, port: MemoryStore) -> Callable[..., None]:
    """Play a scenario: ``play(scenario, **options of the store)``."""

    def played(scenario: Scenario, **options: Any) -> None:
        run(colour, port, scenario, **options)

    return played


@pytest.fixture(params=STORES)
def store_of(request: pytest.FixtureRequest, live_named: Callable[[str], LiveStore]) -> LiveStore:
    return live_named(str(request.param))


@pytest.fixture
def proxy(store_of: LiveStore) -> Iterator[FaultProxy]:
    with FaultProxy(store_of.sidecar.grpc_port, seed=SEED, late_after=2.0) as proxy:
        yield proxy
