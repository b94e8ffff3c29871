"""
A member of a batch leaves at its own deadline, also while the batch has not got as far as its turn.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from tests.transactions.gathered import Held, move
from toolkit import AsyncStateStore, RetryPolicy, StoreUnavailableError
from toolkit.core.model import Reply, Row
from toolkit.testing.memory import MemoryStore

SHORT = RetryPolicy(deadline=1.5)


class Stuck(Held):
    """A store whose bulk reads are held once its first commit was let go."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.reads = anyio.Event()
        self.held = anyio.Event()

    async def get_bulk(self, keys: Sequence[str], *, timeout: float) -> tuple[Row | Reply, ...]:
        if self.go.is_set():
            self.held.set()
            await self.reads.wait()
        return await super().get_bulk(keys, timeout=timeout)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_members_leave_while_the_batch_reads(backend: str) -> None:
    """
    Two wait behind a commit; when they go together the read of their keys hangs: each is told in time that nothing was
    written, by the name of a key, and nothing is.
    """

    async def main() -> None:
        port, errors = Stuck(MemoryStore(profile="postgresql/v2")), list[str]()
        async with AsyncStateStore("x", port=port) as store:
            for key in "ab":
                await store.set(key, {"n": 10})

            async def late() -> None:
                with pytest.raises(StoreUnavailableError) as caught:
                    await store.transact(move, "a", "b", retry=SHORT)
                errors.append(str(caught.value))

            async with anyio.create_task_group() as first:
                first.start_soon(store.transact, move, "a", "b")
                await port.arrived.wait()
                async with anyio.create_task_group() as others:
                    others.start_soon(late)
                    others.start_soon(late)
                    await anyio.wait_all_tasks_blocked()
                    port.go.set()
                assert port.held.is_set()
                port.reads.set()
            assert all("key 'a'" in error and "nothing was written" in error for error in errors)
            assert {"a": {"n": 9}, "b": {"n": 11}} == await store.get_many("ab")

    anyio.run(main, backend=backend)
