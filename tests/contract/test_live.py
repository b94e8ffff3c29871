"""
The contract through a real daprd, on every protected store that runs here.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import require
from tests.contract.caller import Place, sidecar
from tests.contract.suite import Contract
from toolkit.testing.live import PROTECTED, LiveStores


class TestLive(Contract):
    @pytest.fixture(scope="class", params=PROTECTED)
    @classmethod
    def place(cls, request: pytest.FixtureRequest, live: LiveStores) -> Iterator[Place]:
        store = require(live, str(request.param))
        with sidecar(store.name, store.address) as place:
            yield place
