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
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from toolkit import AsyncStateStore
from toolkit.sidecar import ControlPlane, Sidecar
from toolkit.sidecar.resources import default_component
from toolkit.testing.tcp import TcpProxy
from workflows.actors import ActorMethodError, FencedActor, GrpcActorProxyFactory

sys.path.insert(0, str(Path(__file__).parent))
from live_actors import LedgerInterface, PlainLedgerInterface


class Beyond:
    """
    A control plane whose placement is reached over another line.
    """

    def __init__(self, plane, port):
        self.arguments = [*plane.arguments]
        self.arguments[self.arguments.index("--placement-host-address") + 1] = f"127.0.0.1:{port}"


@dataclass
class Site:
    """
    Two sidecars of one application, on one placement and one store, and the line from the first to placement.
    """

    first: Sidecar
    second: Sidecar
    line: TcpProxy


@pytest.fixture
def two_sidecars(daprd, daprd_binaries, tmp_path):
    """
    Makes such a pair, with a control plane of its own.
    """

    @contextlib.contextmanager
    def make(name="pair"):
        directory = tmp_path / name
        directory.mkdir()
        with ControlPlane(binaries=daprd_binaries) as plane:
            address = plane.arguments[plane.arguments.index("--placement-host-address") + 1]
            with TcpProxy(int(address.rpartition(":")[2])) as line:
                options = {"app_id": "ledgers", "components": [default_component(directory)]}
                first = daprd(control_plane=Beyond(plane, line.port), **options)
                second = daprd(control_plane=plane, **options)
                yield Site(first, second, line)

    return make


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


async def take_over(kind, interface, site, start_host, fifo):
    """
    Freeze the first host in a turn, let the second one write, wake the first; give its verdict and the last state.

    The first sidecar cannot hear of it: what placement sends is held on the line when it wakes.
    """
    first, second = site.first, site.second
    os.mkfifo(fifo)
    frozen = await asyncio.to_thread(start_host, first)
    async with (
        GrpcActorProxyFactory(first.grpc_endpoint, timeout=60) as by_first,
        GrpcActorProxyFactory(second.grpc_endpoint, timeout=2) as by_second,
    ):
        turn = asyncio.create_task(by_first.create(kind, "a", interface).Hold(str(fifo)))
        assert "holding" == await line_of(frozen)
        site.line.freeze()
        first.freeze()
        os.kill(frozen.pid, signal.SIGSTOP)
        await asyncio.to_thread(start_host, second)
        ledger = by_second.create(kind, "a", interface)
        await answered(lambda: ledger.Add("new"))
        # The host goes on first: its write is the first thing its sidecar finds when it wakes.
        os.kill(frozen.pid, signal.SIGCONT)
        await asyncio.to_thread(fifo.write_bytes, b"go on")
        first.resume()
        verdict = await line_of(frozen)
        site.line.resume()
        turn.cancel()
        with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError, ActorMethodError):
            await turn
        return verdict, (await answered(ledger.Read))["entries"]


def test_the_host_that_wakes_up_cannot_overwrite_its_successor(two_sidecars, start_host, tmp_path):
    """
    The held turn of a fenced actor is refused, and what the new activation acknowledged is there.
    """

    async def stored(site):
        async with AsyncStateStore("statestore", address=site.second.grpc_endpoint) as store:
            return await store.get(FencedActor.key("LiveLedger", "a"))

    with two_sidecars() as site:
        run = take_over("LiveLedger", LedgerInterface, site, start_host, tmp_path / "fifo")
        assert ("refused", ["new"]) == asyncio.run(run)
        assert ["new"] == asyncio.run(stored(site))["entries"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_plain_actor_overwrites_its_successor(two_sidecars, start_host, tmp_path):
    """
    The control: the same turn of an SDK actor is written, and the store has lost the acknowledged update.

    A sidecar that was waiting for a sign of life from placement when it was frozen gives up its actors as it wakes, and
    its host is refused by chance: so there are three attempts, of which one must succeed.
    """
    heard = []
    for attempt in "123":
        with two_sidecars(attempt) as site:
            run = take_over(
                "LivePlainLedger", PlainLedgerInterface, site, start_host, tmp_path / f"fifo-{attempt}"
            )
            verdict, _ = asyncio.run(run)
            database = next((tmp_path / attempt).glob("*.db"))
            with contextlib.closing(sqlite3.connect(database)) as rows:
                found = rows.execute(
                    "SELECT value FROM state WHERE key LIKE '%LivePlainLedger||a||entries'"
                ).fetchall()
        heard.append((verdict, [json.loads(base64.b64decode(value)) for (value,) in found]))
        if verdict == "written":
            break
    assert ("written", [["held"]]) == heard[-1], f"the attempts ended with {heard}"
