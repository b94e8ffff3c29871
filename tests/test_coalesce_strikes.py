"""
A read that waits for others, or that others wait for, is interrupted at the entry of every function: it leaves no trace.
"""

from __future__ import annotations

from queue import SimpleQueue

import pytest

from tests.strikes import EVENTS, as_long_as, elsewhere, everywhere
from toolkit._coalesce import FREE, Coalescer
from toolkit.core.model import Reply, Row
from toolkit.testing.memory import MemoryStore

# Seconds; a read may take ten.
PATIENCE, TIMEOUT = 5.0, 10.0
# A strike inside of a destructor goes nowhere, and is told to nobody but Python.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Joined(MemoryStore):
    """
    A store in which a read of ``a`` ends when somebody waits for it, or its caller is gone; it waits in one call of a
    function written in C, so that the places to strike at are the same each time.
    """

    def __init__(self) -> None:
        super().__init__(profile="in-memory")
        self.reading, self.joined = False, SimpleQueue[None]()

    def get(self, key: str, *, strong: bool = True, timeout: float = 1.0) -> Row | Reply:
        if key == "a" and self.reading:
            self.joined.get(timeout=PATIENCE)
        return super().get(key, strong=strong, timeout=timeout)


@pytest.fixture
def port() -> Joined:
    port = Joined()
    port.connect(1.0)
    return port


@pytest.fixture
def reads(port: Joined) -> Coalescer:
    return Coalescer(port)


@EVENTS
def test_a_read_that_another_waits_for(port: Joined, reads: Coalescer, event: str) -> None:
    """Whoever waits is served once it is back, struck or not, and nothing is counted that is not there."""
    gathering, others = reads.gathering, []

    def join() -> None:
        as_long_as(lambda: port.reading and len(gathering.flying) < FREE)
        others.append(elsewhere(lambda: reads.get("b", strong=True, timeout=TIMEOUT)))
        as_long_as(lambda: port.reading and not gathering.waiting)
        port.joined.put(None)

    def before() -> None:
        gathering.flying[:] = [None] * (FREE - 1)
        port.reading, port.joined = True, SimpleQueue()
        others[:] = [elsewhere(join)]

    def after(at: int) -> None:
        port.reading = False
        others[0].result(PATIENCE)
        assert isinstance(others[1].result(PATIENCE), Row), f"struck at function {at}"
        assert len(gathering.flying) == FREE - 1, f"counted after a strike at function {at}"
        assert (gathering.bulks, gathering.leader, len(gathering.waiting)) == (0, None, 0)

    everywhere(lambda: reads.get("a", strong=True, timeout=TIMEOUT), after, event, before=before, least=5)


@EVENTS
@pytest.mark.parametrize("bulk", [False, True])
def test_a_read_that_leads_others(reads: Coalescer, event: str, bulk: bool) -> None:
    """It waits with another one, and is struck before, while and after it reads for both: the other has its row."""
    gathering, others = reads.gathering, []

    def before() -> None:
        gathering.flying[:] = [None] * FREE
        others[:] = [elsewhere(lead)]

    def lead() -> None:
        """Have another one join, and the first of those that wait lead."""
        as_long_as(lambda: not gathering.waiting and gathering.flying)
        other = elsewhere(lambda: reads.get("b", strong=True, timeout=TIMEOUT))
        others.append(other)
        as_long_as(lambda: len(gathering.waiting) < 2 and gathering.flying and not other.done())
        with reads.lock:
            gathering.appoint()

    def call() -> None:
        if bulk:
            reads.get_bulk(["a", "c"], timeout=TIMEOUT)
        else:
            reads.get("a", strong=True, timeout=TIMEOUT)

    def after(at: int) -> None:
        gathering.flying.clear()
        others[0].result(PATIENCE)
        with reads.lock:
            gathering.appoint()
        assert isinstance(others[1].result(PATIENCE), Row), f"struck at function {at}"
        assert (gathering.bulks, gathering.leader, len(gathering.waiting)) == (0, None, 0)

    everywhere(call, after, event, before=before, least=10)
