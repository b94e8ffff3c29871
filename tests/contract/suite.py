"""
The contract of a store: what every colour keeps on every store.

Subclasses give a ``place`` (what to test on, class-scoped) and inherit all tests; ``store`` is an open store in each
colour. Keys are fresh for every test, so that stores can be shared.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.contract.caller import COLOURS, Caller, Place
from tests.contract.common import SHORT
from tests.contract.life import Life
from tests.contract.stored import Stored
from tests.contract.verbs import Verbs


class Contract(Verbs, Stored, Life):
    @pytest.fixture(scope="class", params=COLOURS)
    @classmethod
    def store(cls, request: pytest.FixtureRequest, place: Place) -> Iterator[Caller]:
        with place.open(str(request.param), **SHORT) as store:
            yield store

    @pytest.fixture
    def key(self) -> str:
        return f"k-{uuid.uuid4().hex}"

    @pytest.fixture
    def rival(self, place: Place) -> Iterator[Caller]:
        """The same store as another process sees it."""
        with place.open(**SHORT) as store:
            yield store
