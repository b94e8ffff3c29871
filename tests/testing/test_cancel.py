"""
Cancelling everywhere finds the half transfer, on asyncio and on trio.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from toolkit.testing.cancel import Cut, cancel_everywhere

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


async def cuts_of(make: Any) -> list[Cut]:
    return [cut async for cut in cancel_everywhere(make)]


async def test_every_suspension_is_cut_once_and_the_last_run_is_whole() -> None:
    """A coroutine of three checkpoints has three cuts and one uncut run with its result."""

    async def work() -> str:
        for _ in range(3):
            await checkpoint()
        return "done"

    cuts = await cuts_of(work)
    expected = [
        *(Cut(at, cancelled=True) for at in range(1, len(cuts))),
        Cut(None, cancelled=False, result="done"),
    ]
    assert cuts == expected
    assert len(cuts) >= 4


async def test_a_half_transfer_is_found() -> None:
    """Two writes with a suspension between them leave the sum wrong at some cut."""
    accounts = {"a": 100, "b": 0}

    async def transfer() -> None:
        await checkpoint()
        accounts["a"] -= 10
        await checkpoint()
        accounts["b"] += 10

    sums: set[int] = set()
    async for _ in cancel_everywhere(transfer):
        sums.add(accounts["a"] + accounts["b"])
        accounts.update(a=100, b=0)
    assert sums == {90, 100}


async def test_shielded_work_is_done_and_the_cancellation_still_comes_out() -> None:
    """A shield lets the second write happen; each cut run still ends cancelled."""
    accounts = {"a": 100, "b": 0}

    async def transfer() -> None:
        await checkpoint()
        with anyio.CancelScope(shield=True):
            accounts["a"] -= 10
            await checkpoint()
            accounts["b"] += 10
        await checkpoint()

    async for cut in cancel_everywhere(transfer):
        assert accounts["a"] + accounts["b"] == 100
        assert cut.cancelled == (cut.at is not None)
        accounts.update(a=100, b=0)


async def test_a_swallowed_cancellation_shows() -> None:
    """A coroutine that catches the cancellation and goes on ends by itself: not cancelled."""

    async def stubborn() -> str:
        try:
            await checkpoint()
        except BaseException:
            return "swallowed"
        return "whole"

    cuts = await cuts_of(stubborn)
    assert {(cut.cancelled, cut.result) for cut in cuts if cut.at is not None} >= {(False, "swallowed")}
    assert cuts[-1].result == "whole"


async def test_clean_up_runs_at_every_cut() -> None:
    """``finally`` runs once per run, cut or not."""
    opened: list[str] = []

    async def work() -> None:
        opened.append("open")
        try:
            await checkpoint()
            await checkpoint()
        finally:
            opened.append("close")

    cuts = await cuts_of(work)
    assert opened == ["open", "close"] * len(cuts)


async def test_real_waiting_is_cut_too() -> None:
    """A wait that would never end is a suspension like any other; events still wake what is not cut."""
    event = anyio.Event()

    async def waiter() -> str:
        await event.wait()
        return "woken"

    async with aclosing(cancel_everywhere(waiter)) as cuts:
        first = await anext(cuts)
        event.set()
        last = [cut async for cut in cuts][-1]
    assert (first.cancelled, last) == (True, Cut(None, cancelled=False, result="woken"))


async def test_errors_are_given_or_let_out() -> None:
    """An exception of the coroutine is in the cut, or is raised on request."""

    async def broken() -> None:
        await checkpoint()
        raise LookupError("planted")

    cuts = await cuts_of(broken)
    assert isinstance(cuts[-1].error, LookupError)
    with pytest.raises(LookupError, match="planted"):
        async for _ in cancel_everywhere(broken, errors=False):
            pass


async def test_a_coroutine_that_never_ends_is_reported() -> None:
    """The limit on suspensions ends the search."""

    async def forever() -> None:
        while True:
            await checkpoint()

    with pytest.raises(RuntimeError, match="still suspended at point 20"):
        async for _ in cancel_everywhere(forever, limit=20):
            pass
