"""
A store for the tests of typed views.
"""

from __future__ import annotations

import pytest

from toolkit import (
    StateStore,
)
from toolkit.testing import MemoryStore


@pytest.fixture
def store():
    with StateStore("s", port=MemoryStore(profile="sqlite")) as opened:
        yield opened
