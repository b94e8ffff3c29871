"""
The contract on ``MemoryStore``, which plays the rules of each profile.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

import pytest

from tests.contract.caller import Place, memory
from tests.contract.common import inc
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


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_store_that_a_fork_left_behind() -> None:
    """The child may open the very object anew, or leave its block; the parent's stays open."""
    with StateStore("x", port=memory("in-memory").port) as store:
        store.set("k", {"n": 1})
        child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(BaseException):
                store.close()
                with store as mine:
                    code = 0 if mine.update("k", inc) == {"n": 2} else 2
            os._exit(code)
        _, status = os.waitpid(child, 0)
        assert (os.waitstatus_to_exitcode(status), store.update("k", inc)) == (0, {"n": 2})
