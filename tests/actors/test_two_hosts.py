"""
Two hosts that run the same actor at once: one is frozen in the middle of a turn, declared dead, and wakes up.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from toolkit import AsyncStateStore
from toolkit.sidecar import ControlPlane, Sidecar
from toolkit.sidecar.resources import default_component
from toolkit.testing import History, TcpProxy, check_linearizable
from toolkit.testing.history import load
from workflows.actors import ActorFencedError, ActorMethodError, FencedActor, GrpcActorProxyFactory

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


@dataclass
class Client:
    """
    Calls one actor and records each of its turns: an ``Add`` as an increment, a ``Read`` as a read of the count.
    """

    proxy: object
    history: History
    key: str
    name: str

    async def once(self, f, call, count):
        """
        One turn; it ends as ``info`` when its outcome is unknown, as ``fail`` when the actor says it wrote nothing.
        """
        turn = self.history.call(self.name, f, self.key, 1 if f == "inc" else None)
        try:
            answer = await call()
        except ActorFencedError:
            turn.fail()
            raise
        except BaseException:
            turn.info()
            raise
        turn.ok(count(answer))
        return answer

    async def patiently(self, f, call, count):
        """
        Turns until one is answered: while placement moves the actor, calls run into their timeout.
        """
        for _ in range(30):
            try:
                return await self.once(f, call, count)
            except (grpc.aio.AioRpcError, ActorFencedError) as error:
                last = error
        raise last

    async def add(self, entry):
        return await self.patiently("inc", lambda: self.proxy.Add(entry), int)

    async def read(self):
        state = await self.patiently("read", self.proxy.Read, lambda state: len(state["entries"]))
        return state["entries"]


async def line_of(process):
    """
    The next line a host prints.
    """
    return (await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 30)).strip()


async def take_over(kind, interface, site, start_host, history):
    """
    Freeze the first host in a turn, let the second one write, wake the first; give its verdict and the last state.

    The first sidecar cannot hear of it: what placement sends is held on the line when it wakes. Every turn is in the
    history, the last of them on a third host, which knows no more than the store.
    """
    first, second = site.first, site.second
    fifo = history.path.with_suffix(".fifo")
    os.mkfifo(fifo)
    frozen = await asyncio.to_thread(start_host, first)
    async with (
        GrpcActorProxyFactory(first.grpc_endpoint, timeout=60) as by_first,
        GrpcActorProxyFactory(second.grpc_endpoint, timeout=2) as by_second,
    ):
        clients = [
            Client(by_second.create(kind, "a", interface), history, f"{kind}/a", f"client {number}")
            for number in range(3)
        ]
        holder = Client(by_first.create(kind, "a", interface), history, f"{kind}/a", "holder")
        turn = asyncio.create_task(holder.once("inc", lambda: holder.proxy.Hold(str(fifo)), int))
        assert "holding" == await line_of(frozen)
        site.line.freeze()
        first.freeze()
        os.kill(frozen.pid, signal.SIGSTOP)
        successor = await asyncio.to_thread(start_host, second)
        await clients[0].add("new 0")
        await asyncio.gather(*(client.add(f"new {number}") for number, client in enumerate(clients, 1)))
        # The host goes on first: its write is the first thing its sidecar finds when it wakes.
        os.kill(frozen.pid, signal.SIGCONT)
        await asyncio.to_thread(fifo.write_bytes, b"go on")
        first.resume()
        verdict = await line_of(frozen)
        site.line.resume()
        await asyncio.wait({turn}, timeout=3)
        turn.cancel()
        with contextlib.suppress(
            asyncio.CancelledError, grpc.aio.AioRpcError, ActorMethodError, ActorFencedError
        ):
            await turn
        for host in (frozen, successor):
            host.kill()
        await asyncio.to_thread(start_host, second)
        await clients[0].read()
        await asyncio.gather(*(client.add(f"newer {number}") for number, client in enumerate(clients)))
        return verdict, await clients[0].read()


ACKNOWLEDGED = {"new 0", "new 1", "new 2", "new 3", "newer 0", "newer 1", "newer 2"}


def test_the_host_that_wakes_up_cannot_overwrite_its_successor(two_sidecars, start_host, tmp_path):
    """
    The held turn of a fenced actor is refused, every acknowledged update is there, and the turns are linearizable.
    """

    async def stored(site):
        async with AsyncStateStore("statestore", address=site.second.grpc_endpoint) as store:
            return await store.get(FencedActor.key("LiveLedger", "a"))

    with two_sidecars() as site, History(tmp_path / "turns.jsonl") as history:
        run = take_over("LiveLedger", LedgerInterface, site, start_host, history)
        verdict, entries = asyncio.run(run)
        value = asyncio.run(stored(site))
    assert ("refused", entries) == (verdict, value["entries"])
    assert (ACKNOWLEDGED, len(entries)) == (set(entries), value["n"])
    found = check_linearizable(load(history.path))
    assert "ok" == found.verdict, f"{found}\n{history.path.read_text()}"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_plain_actor_overwrites_its_successor(two_sidecars, start_host, tmp_path):
    """
    The control: the same run of an SDK actor loses acknowledged updates, and the checker says so.

    A sidecar that was waiting for a sign of life from placement when it was frozen gives up its actors as it wakes, and
    its host is refused by chance: so there are three attempts, of which one must succeed.
    """
    heard = []
    for attempt in "123":
        with two_sidecars(attempt) as site, History(tmp_path / f"turns-{attempt}.jsonl") as history:
            run = take_over("LivePlainLedger", PlainLedgerInterface, site, start_host, history)
            verdict, entries = asyncio.run(run)
        found = check_linearizable(load(history.path))
        heard.append((verdict, entries, found.verdict))
        if verdict == "written":
            break
    assert ("written", "held", "bad") == (verdict, entries[0], found.verdict), f"the attempts: {heard}"
    assert not ACKNOWLEDGED <= set(entries), f"nothing was lost: {entries}"
