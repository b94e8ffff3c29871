"""
Each test in both colours, on each way to commit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.transactions.colours import COLOURS, PROFILES, Scenario, run
from toolkit.testing.memory import MemoryStore


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
