"""
Reads of several keys at once, as transactions make them, share bulk calls with the reads of others.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest
from anyio import wait_all_tasks_blocked

from tests.test_coalesce import BACKENDS, BROKEN, PATIENCE, Crowd, crowd, row
from tests.test_coalesce_async import FIRST, Tasks
from toolkit._coalesce import FREE, MOST_KEYS, MOST_SHARED
from toolkit.core.model import MISSING_ROW, Reply, Row

Answers = tuple[Row | Reply, ...]


def several(one: Crowd, keys: Sequence[str], name: str) -> None:
    """A thread that asks for some keys at once and waits for others."""
    before = len(one.reads.gathering.waiting)
    one.futures[name] = one.pool.submit(one.reads.get_bulk, keys, timeout=PATIENCE)  # type: ignore[arg-type]
    one.until(lambda: len(one.reads.gathering.waiting) > before)


def test_threads_share_calls_with_several_keys_each() -> None:
    """
    Two that read pairs and one that reads a single key go out together, a key that two want only once.
    """
    with crowd() as one:
        one.fill()
        several(one, ("a", "b"), "first")
        several(one, ("b", "c"), "second")
        one.ask("d")
        one.port.gate.set()
        found = one.results()
    assert one.port.bulks == [("a", "b", "c", "d")]
    assert (found["first"], found["second"], found["d"]) == (
        (row("a"), row("b")),
        (row("b"), row("c")),
        row("d"),
    )


@pytest.mark.parametrize("bad", [MISSING_ROW, BROKEN])
def test_what_a_shared_read_is_not_sure_of_is_told_as_a_failure(bad: Row | Reply) -> None:
    """
    A key that seems missing is not called missing, so that who asked reads it by itself.
    """
    with crowd() as one:
        one.port.bulk = lambda keys: [bad if key == "b" else row(key) for key in keys]
        one.fill()
        several(one, ("a", "b"), "first")
        one.ask("c")
        one.port.gate.set()
        found = one.results()
    (sure, unsure) = found["first"]  # type: ignore[misc]
    assert sure == row("a")
    assert isinstance(unsure, Reply)
    assert unsure.code == "UNAVAILABLE"
    assert found["c"] == row("c")


def test_many_keys_at_once_are_nobody_elses() -> None:
    """
    A long list goes out by itself; and a call takes no more keys than its limit, keeping each caller's keys together.
    """
    keys = tuple(f"k{number}" for number in range(MOST_SHARED + 1))
    with crowd() as one:
        one.fill()
        assert one.reads.get_bulk(keys, timeout=PATIENCE) == tuple(row(key) for key in keys)
        pairs = [(f"p{number}", f"q{number}") for number in range(MOST_KEYS // 2 + 1)]
        for number, pair in enumerate(pairs):
            several(one, pair, f"pair-{number}")
        one.port.gate.set()
        one.results()
    assert one.port.bulks[0] == keys
    assert [len(bulk) for bulk in one.port.bulks[1:]] == [MOST_KEYS, 2]


@BACKENDS
def test_tasks_share_calls_with_several_keys_each(backend: str) -> None:
    """
    The same on an event loop; below the limit such a read goes out by itself.
    """

    async def main() -> Tasks:
        async with anyio.create_task_group() as group:
            tasks = Tasks(group)
            found: dict[str, Answers] = {}

            async def ask(name: str, *keys: str) -> None:
                found[name] = await tasks.reads.get_bulk(keys, timeout=PATIENCE)

            group.start_soon(ask, "alone", "x", "y")
            await wait_all_tasks_blocked()
            await tasks.ask(*FIRST[: FREE - 1])
            for name, keys in {"first": ("a", "b"), "second": ("b", "c")}.items():
                group.start_soon(ask, name, *keys)
                await wait_all_tasks_blocked()
            tasks.port.gate.set()
            tasks.port.bulk_gate.set()
        assert found == {
            "alone": (row("x"), row("y")),
            "first": (row("a"), row("b")),
            "second": (row("b"), row("c")),
        }
        return tasks

    tasks = anyio.run(main, backend=backend)
    assert tasks.port.bulks == [("x", "y"), ("a", "b", "c")]
