"""
Two hosts that run the same actor at once: one is frozen in the middle of a turn, declared dead, and wakes up.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import sqlite3
import sys
from pathlib import Path

import grpc
import pytest

from toolkit import AsyncStateStore
from toolkit.sidecar import ControlPlane
from toolkit.sidecar.resources import default_component
from workflows.actors import ActorMethodError, FencedActor, GrpcActorProxyFactory

sys.path.insert(0, str(Path(__file__).parent))
from live_actors import LedgerInterface, PlainLedgerInterface


@pytest.fixture
def two_sidecars(daprd, daprd_binaries, tmp_path):
    """
    Two sidecars of one application, on one placement and one store.
    """
    with ControlPlane(binaries=daprd_binaries) as plane:
        options = {"app_id": "ledgers", "control_plane": plane, "components": [default_component(tmp_path)]}
        yield daprd(**options), daprd(**options)


async def answered(call):
    """
    The first answer; until placement has moved the actor, calls to the frozen host run into their timeout.
    """
    for _ in range(15):
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            last = error
    raise last


async def line_of(process):
    """
    The next line a host prints.
    """
    return (await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 30)).strip()


async def take_over(kind, interface, sidecars, start_host, fifo):
    """
    Freeze the first host in a turn, let the second one write, wake the first; give its verdict and the last state.
    """
    first, second = sidecars
    os.mkfifo(fifo)
    frozen = await asyncio.to_thread(start_host, first)
    async with (
        GrpcActorProxyFactory(first.grpc_endpoint, timeout=60) as by_first,
        GrpcActorProxyFactory(second.grpc_endpoint, timeout=2) as by_second,
    ):
        turn = asyncio.create_task(by_first.create(kind, "a", interface).Hold(str(fifo)))
        assert "holding" == await line_of(frozen)
        first.freeze()
        os.kill(frozen.pid, signal.SIGSTOP)
        await asyncio.to_thread(start_host, second)
        ledger = by_second.create(kind, "a", interface)
        await answered(lambda: ledger.Add("new"))
        # The host goes on first: its write is the first thing its sidecar finds when it wakes, before any news.
        os.kill(frozen.pid, signal.SIGCONT)
        await asyncio.to_thread(fifo.write_bytes, b"go on")
        first.resume()
        verdict = await line_of(frozen)
        turn.cancel()
        with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError, ActorMethodError):
            await turn
        return verdict, (await answered(ledger.Read))["entries"]


def test_the_host_that_wakes_up_cannot_overwrite_its_successor(two_sidecars, start_host, tmp_path):
    """
    The held turn of a fenced actor is refused, and what the new activation acknowledged is there.
    """
    run = take_over("LiveLedger", LedgerInterface, two_sidecars, start_host, tmp_path / "fifo")
    assert ("refused", ["new"]) == asyncio.run(run)

    async def stored():
        async with AsyncStateStore("statestore", address=two_sidecars[1].grpc_endpoint) as store:
            return await store.get(FencedActor.key("LiveLedger", "a"))

    assert ["new"] == asyncio.run(stored())["entries"]


@pytest.mark.slow
def test_a_plain_actor_overwrites_its_successor(two_sidecars, start_host, tmp_path):
    """
    The control: the same turn of an SDK actor is written, and the store has lost the acknowledged update.
    """
    run = take_over("LivePlainLedger", PlainLedgerInterface, two_sidecars, start_host, tmp_path / "fifo")
    verdict, _ = asyncio.run(run)
    database = next(tmp_path.glob("*.db"))
    with contextlib.closing(sqlite3.connect(database)) as rows:
        found = rows.execute(
            "SELECT value FROM state WHERE key LIKE '%LivePlainLedger||a||entries'"
        ).fetchall()
    stored = [json.loads(base64.b64decode(value)) for (value,) in found]
    assert ("written", [["held"]]) == (verdict, stored)
