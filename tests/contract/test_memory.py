"""
The contract on ``MemoryStore``, which plays the rules of each profile.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.caller import Place, memory
from tests.contract.suite import Contract
from tests.core.support import PROFILES
from toolkit import StateStore


class TestMemory(Contract):
    @pytest.fixture(scope="class", params=PROFILES)
    @classmethod
    def place(cls, request: pytest.FixtureRequest) -> Place:
        return memory(str(request.param))


@pytest.mark.parametrize("name", ["", None, 5])
def test_a_store_has_a_name(name: Any) -> None:
    """Anything else is a TypeError at once."""
    with pytest.raises(TypeError, match="name"):
        StateStore(name)


def test_a_store_never_entered() -> None:
    """A call on it is a RuntimeError that shows the block to write."""
    with pytest.raises(RuntimeError, match="with StateStore"):
        StateStore("x", port=memory("in-memory").port).get("k")
