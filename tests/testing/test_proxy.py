"""
The fault proxy passes everything, and each fault does to both sides what it says.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.testing.grpc_server import SERVICE, CountingServer
from toolkit.testing.proxy import FaultProxy


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with CountingServer() as running:
        yield running


@pytest.fixture
def proxy(server: CountingServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.port, seed=1) as running:
        yield running


@pytest.fixture
def call(proxy: FaultProxy) -> Iterator[Callable[..., Any]]:
    """Make a unary call through the proxy: the answer, or the name of the status."""
    with grpc.insecure_channel(f"127.0.0.1:{proxy.port}") as channel:

        def make(method: str, request: bytes = b"", timeout: float = 10.0) -> Any:
            try:
                return channel.unary_unary(f"/{SERVICE}/{method}")(request, timeout=timeout)
            except grpc.RpcError as error:
                return error.code().name

        yield make


def test_answers_and_metadata_pass(server: CountingServer, proxy: FaultProxy) -> None:
    """A clean call is the server's own answer, with the client's metadata at the server."""
    with grpc.insecure_channel(f"127.0.0.1:{proxy.port}") as channel:
        save = channel.unary_unary(f"/{SERVICE}/SaveState")
        assert save(b"a", metadata=(("dapr-api-token", "secret"),), timeout=10) == b"1"
    assert ("dapr-api-token", "secret") in server.metadata


def test_status_details_and_trailers_pass(proxy: FaultProxy) -> None:
    """A refusal keeps its code, its text and its trailing metadata, binary ones too."""
    with grpc.insecure_channel(f"127.0.0.1:{proxy.port}") as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/{SERVICE}/DeleteState")(b"", timeout=10)
    error: Any = caught.value
    assert (error.code(), error.details()) == (grpc.StatusCode.ABORTED, "etag mismatch")
    trailers = dict(error.trailing_metadata())
    assert (trailers["x-reason"], trailers["detail-bin"]) == ("stale", b"\x00\xff")


def test_streams_pass_both_ways(proxy: FaultProxy) -> None:
    """A bidirectional stream echoes through, and its error arrives after its messages."""
    seen: list[bytes] = []
    with grpc.insecure_channel(f"127.0.0.1:{proxy.port}") as channel:
        replies = channel.stream_stream(f"/{SERVICE}/SubscribeEcho")(iter([b"a", b"b", b"break"]), timeout=10)
        with pytest.raises(grpc.RpcError) as caught:
            seen.extend(replies)
    error: Any = caught.value
    assert (seen, error.code()) == ([b"aa", b"bb"], grpc.StatusCode.RESOURCE_EXHAUSTED)


@pytest.mark.parametrize(
    ("fault", "answer", "received"),
    [
        (None, b"1", 1),
        ("drop_request", "UNAVAILABLE", 0),
        ("drop_reply", "UNAVAILABLE", 1),
        ("duplicate", b"2", 2),
        ("delay", b"1", 1),
    ],
)
def test_a_scripted_fault_hits_one_call(
    server: CountingServer,
    proxy: FaultProxy,
    call: Callable[..., Any],
    fault: Any,
    answer: Any,
    received: int,
) -> None:
    """The scripted call suffers, the next one does not, and both are counted."""
    proxy.next("SaveState", fault)
    assert (call("SaveState"), len(server.received)) == (answer, received)
    assert call("SaveState") == b"%d" % (received + 1)
    assert proxy.calls == {"SaveState": 2}
    assert proxy.faults == ({("SaveState", fault): 1} if fault else {})


def test_a_hanging_call_ends_with_the_clients_deadline(
    server: CountingServer, proxy: FaultProxy, call: Callable[..., Any]
) -> None:
    """The server never sees it."""
    proxy.next("SaveState", "hang")
    assert (call("SaveState", timeout=0.2), server.received) == ("DEADLINE_EXCEEDED", [])


def test_a_late_duplicate_waits_for_another_write(
    server: CountingServer, proxy: FaultProxy, call: Callable[..., Any]
) -> None:
    """The copy arrives after the next write and not after a read."""
    proxy.next("SaveState", "late_duplicate")
    answers = [call("SaveState", b"old"), call("GetState"), call("SaveState", b"new")]
    for _ in range(3):
        assert server.arrived.acquire(timeout=10)
    assert (answers, server.received) == ([b"1", b"old", b"2"], [b"old", b"new", b"old"])


def test_a_late_duplicate_comes_by_itself_after_a_while(server: CountingServer) -> None:
    """Without another write the copy arrives after the time given."""
    with FaultProxy(server.port, late_after=0.05) as proxy:
        proxy.next("SaveState", "late_duplicate")
        with grpc.insecure_channel(f"127.0.0.1:{proxy.port}") as channel:
            channel.unary_unary(f"/{SERVICE}/SaveState")(b"x", timeout=10)
        assert server.arrived.acquire(timeout=10)
        assert server.arrived.acquire(timeout=10)
    assert server.received == [b"x", b"x"]


def test_healing_sends_what_is_held_and_stops_all_faults(
    server: CountingServer, proxy: FaultProxy, call: Callable[..., Any]
) -> None:
    """After ``heal`` late copies have arrived and the script is forgotten."""
    proxy.set_rates({"drop_request": 1.0})
    proxy.next("SaveState", "late_duplicate", "drop_request")
    call("SaveState", b"x")
    proxy.heal()
    assert server.received == [b"x", b"x"]
    assert call("SaveState") == b"3"


def test_rates_hit_the_chosen_methods_as_often_as_asked(
    server: CountingServer, proxy: FaultProxy, call: Callable[..., Any]
) -> None:
    """Reads are spared by default; of 400 writes each fault hits its share."""
    proxy.set_rates({"drop_request": 0.2, "drop_reply": 0.2})
    for _ in range(400):
        call("SaveState")
        call("GetState")
    counts = proxy.faults
    assert set(counts) == {("SaveState", "drop_request"), ("SaveState", "drop_reply")}
    assert all(50 < count < 110 for count in counts.values())
    assert len(server.received) == 400 - counts["SaveState", "drop_request"]
    assert len(proxy.log) == sum(counts.values())


def test_the_seed_replays_the_decisions() -> None:
    """The same seed decides the same for the same calls, another one differently."""

    def decisions(seed: int) -> list[Any]:
        proxy = FaultProxy(1, seed=seed, rates={"drop_reply": 0.3, "delay": 0.3})
        return [proxy.decide("SaveState") for _ in range(50)]

    assert decisions(3) == decisions(3)
    assert decisions(3) != decisions(4)


@pytest.mark.parametrize("rates", [{"drop_all": 0.1}, {"hang": -0.1}, {"hang": 0.6, "delay": 0.6}])
def test_impossible_rates_are_refused(rates: Any) -> None:
    """Unknown faults and chances that are none are a ValueError."""
    with pytest.raises(ValueError, match=r"fault|chances"):
        FaultProxy(1, rates=rates)


def test_unknown_faults_in_a_script_are_refused() -> None:
    """A typing mistake in a test must not let the call pass."""
    with pytest.raises(ValueError, match=r"no fault is called \['drop'\]: there are drop_request"):
        FaultProxy(1).next("SaveState", "drop")  # type: ignore[arg-type]


def test_a_server_that_is_gone_is_unavailable(proxy: FaultProxy) -> None:
    """The proxy passes on that its server cannot be reached."""
    with FaultProxy(1) as lonely, grpc.insecure_channel(f"127.0.0.1:{lonely.port}") as channel:
        call = channel.unary_unary(f"/{SERVICE}/SaveState")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=5)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.UNAVAILABLE


def test_asyncio_clients_work_in_another_loop(server: CountingServer, proxy: FaultProxy) -> None:
    """A client on ``grpc.aio`` makes parallel calls through the proxy of another thread's loop."""

    async def work() -> list[bytes]:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{proxy.port}") as channel:
            save: Any = channel.unary_unary(f"/{SERVICE}/SaveState")
            return list(await asyncio.gather(*(save(b"x", timeout=20) for _ in range(200))))

    assert sorted(map(int, asyncio.run(work()))) == list(range(1, 201))


def test_calls_pass_side_by_side() -> None:
    """None of eight calls is answered before all of them have arrived, and all get through, again and again."""

    class Meeting(CountingServer):
        gate = threading.Barrier(8)

        def _save(self, request: bytes, context: grpc.ServicerContext) -> bytes:
            self.gate.wait(30)
            return super()._save(request, context)

    with (
        Meeting() as server,
        FaultProxy(server.port) as proxy,
        grpc.insecure_channel(f"127.0.0.1:{proxy.port}") as channel,
        ThreadPoolExecutor(8) as pool,
    ):
        save = channel.unary_unary(f"/{SERVICE}/SaveState")
        answers = list(pool.map(lambda _: save(b"x", timeout=60), range(80)))
    assert sorted(map(int, answers)) == list(range(1, 81))


def test_leaving_ends_calls_in_flight(server: CountingServer) -> None:
    """A call that hangs ends with an error when the proxy stops."""
    arrived = threading.Event()

    class Watched(FaultProxy):
        def decide(self, method: str) -> Any:
            arrived.set()
            return super().decide(method)

    with ThreadPoolExecutor(1) as pool:
        with Watched(server.port) as proxy:
            proxy.next("SaveState", "hang")
            channel = grpc.insecure_channel(f"127.0.0.1:{proxy.port}")
            hanging = pool.submit(channel.unary_unary(f"/{SERVICE}/SaveState"), b"", 30.0)
            assert arrived.wait(10)
        with pytest.raises(grpc.RpcError):
            hanging.result(10)
        channel.close()
