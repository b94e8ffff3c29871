"""
The contract through a real daprd, on every protected store that runs here.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import require
from tests.contract.caller import Caller, Place, sidecar
from tests.contract.common import SHORT
from tests.contract.suite import Contract
from toolkit.testing.live import PROTECTED, LiveStores

# The trio colour is the sync port in threads: every store in `make test-all`, the others' ports in `make test` too.
IN_TURN = ("sync", "asyncio", pytest.param("trio", marks=pytest.mark.slow))


class TestLive(Contract):
    @pytest.fixture(scope="class", params=IN_TURN)
    @classmethod
    def store(cls, request: pytest.FixtureRequest, place: Place) -> Iterator[Caller]:
        with place.open(str(request.param), **SHORT) as store:
            yield store

    @pytest.fixture(scope="class", params=PROTECTED)
    @classmethod
    def place(cls, request: pytest.FixtureRequest, live: LiveStores) -> Iterator[Place]:
        store = require(live, str(request.param))
        with sidecar(store.name, store.address) as place:
            yield place
