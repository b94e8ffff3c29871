"""
The TCP proxy passes bytes, and breaks connections where it is told to.
"""

from __future__ import annotations

import base64
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Self

import pytest

from tests.contract.common import until
from toolkit.testing.latency import latency
from toolkit.testing.tcp import TcpProxy


class LineServer(socketserver.ThreadingTCPServer):
    """
    Keeps every line it gets and answers with their number.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        super().__init__(("127.0.0.1", 0), LineHandler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class LineHandler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        server = self.server
        assert isinstance(server, LineServer)
        try:
            for line in self.rfile:
                server.lines.append(line.strip())
                self.wfile.write(b"%d\n" % len(server.lines))
        except ConnectionError:
            pass  # the client or the proxy hung up: what these tests are about


@pytest.fixture
def server() -> Iterator[LineServer]:
    with LineServer() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def proxy(server: LineServer) -> Iterator[TcpProxy]:
    with TcpProxy(server.port) as running:
        yield running


class Client:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.file = self.socket.makefile("rb")

    def ask(self, line: bytes) -> bytes:
        self.socket.sendall(line + b"\n")
        return self.file.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()


def outcome(client: Client, line: bytes) -> bytes:
    """The answer, or ``broken`` however the connection ended."""
    try:
        return client.ask(line) or b"broken"
    except ConnectionError:
        return b"broken"


def test_bytes_pass_both_ways(server: LineServer, proxy: TcpProxy) -> None:
    """Requests and answers go through, on several connections, and are counted."""
    with Client(proxy.port) as one, Client(proxy.port) as two:
        answers = [one.ask(b"a"), two.ask(b"b"), one.ask(b"c")]
    assert (answers, server.lines) == ([b"1", b"2", b"3"], [b"a", b"b", b"c"])
    assert (proxy.connections, proxy.requests) == (2, 3)


def test_a_large_answer_passes_whole(proxy: TcpProxy, server: LineServer) -> None:
    """A megabyte arrives byte for byte."""
    blob = b"x" * 1_000_000
    with Client(proxy.port) as client:
        assert client.ask(blob) == b"1"
    assert server.lines == [blob]


def test_a_cut_loses_the_answer_and_not_the_request(server: LineServer, proxy: TcpProxy) -> None:
    """The server has the matching line, the client sees the connection end, other lines pass."""
    proxy.cut_after(b"k7")
    with Client(proxy.port) as client:
        answers = [client.ask(b"set k1"), client.ask(b"set k7")]
    with Client(proxy.port) as again:
        answers.append(again.ask(b"set k7"))
    assert answers == [b"1", b"", b"3"]
    assert (server.lines, dict(proxy.faults)) == ([b"set k1", b"set k7", b"set k7"], {"cut": 1})


def test_a_cut_can_be_repeated_and_chosen_by_a_function(server: LineServer, proxy: TcpProxy) -> None:
    """Two matching requests are cut, the third one passes."""
    proxy.cut_after(lambda data: data.startswith(b"set"), times=2)
    answers: list[bytes] = []
    for line in (b"get", b"set 1", b"set 2", b"set 3"):
        with Client(proxy.port) as client:
            answers.append(client.ask(line))
    assert answers == [b"1", b"", b"", b"4"]


@pytest.mark.parametrize("before", [b"", b"x", b"xy"])
@pytest.mark.parametrize("after", [b"", b"z", b"zz"])
def test_a_cut_finds_bytes_in_base64_too(
    server: LineServer, proxy: TcpProxy, before: bytes, after: bytes
) -> None:
    """Wherever in an encoded value they stand; other values pass."""
    proxy.cut_after(b"order-4711")
    with Client(proxy.port) as client:
        answers = [
            client.ask(base64.b64encode(before + name + after)) for name in (b"order-0815", b"order-4711")
        ]
    assert (answers, dict(proxy.faults)) == ([b"1", b""], {"cut": 1})


def test_a_reset_loses_the_request(server: LineServer, proxy: TcpProxy) -> None:
    """The server never has the line and the client sees a reset."""
    proxy.reset_on(b"bad")
    with Client(proxy.port) as client:
        client.ask(b"good")
        with pytest.raises(ConnectionResetError):
            client.ask(b"bad")
    assert (server.lines, dict(proxy.faults)) == ([b"good"], {"reset": 1})


def test_reset_all_hits_open_connections(proxy: TcpProxy) -> None:
    """Every client sees a reset; new connections work."""
    with Client(proxy.port) as one:
        one.ask(b"a")
        proxy.reset_all()
        assert outcome(one, b"b") == b"broken"
    with Client(proxy.port) as two:
        assert two.ask(b"d") in {b"2", b"3"}


def test_disarming_forgets_what_did_not_fire(proxy: TcpProxy) -> None:
    """A disarmed cut lets the request pass."""
    proxy.cut_after(b"x")
    proxy.disarm()
    with Client(proxy.port) as client:
        assert client.ask(b"x") == b"1"


def test_a_frozen_proxy_holds_bytes_until_it_resumes(server: LineServer, proxy: TcpProxy) -> None:
    """Nothing reaches the server while frozen, everything does afterwards, for new connections too."""
    with Client(proxy.port) as one:
        one.ask(b"a")
        proxy.freeze()
        one.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            one.ask(b"b")
        with Client(proxy.port) as two:
            two.socket.sendall(b"c\n")
            assert server.lines == [b"a"]
            proxy.resume()
            assert two.file.readline().strip() in {b"2", b"3"}
    assert sorted(server.lines) == [b"a", b"b", b"c"]


class FastForward:
    """
    The clock of a proxy's loop, which a test moves ahead.
    """

    def __init__(self, proxy: TcpProxy) -> None:
        assert proxy._loop is not None
        self.loop: Any = proxy._loop
        self.real, self.ahead = self.loop.time, 0.0
        self.loop.time = lambda: self.real() + self.ahead

    def by(self, seconds: float) -> None:
        self.ahead += seconds
        self.loop.call_soon_threadsafe(lambda: None)  # it looks at the clock when it wakes up


def under_way(proxy: TcpProxy) -> tuple[int, int]:
    """How many bytes are on their way to the server and to the client."""
    pair = next(iter(proxy._pairs), None)
    if pair is None:
        return 0, 0  # not accepted yet
    to_server, to_client = (
        sum(len(data or b"") for _, data in side._queue) for side in (pair.server, pair.client)
    )
    return to_server, to_client


def test_latency_is_added_to_each_direction_and_not_to_each_request(
    server: LineServer, proxy: TcpProxy
) -> None:
    """200 requests sent one behind the other arrive together an hour later, and so do their answers."""
    clock = FastForward(proxy)
    proxy.latency = 3600.0
    with Client(proxy.port) as client:
        for _ in range(200):
            client.socket.sendall(b"b\n")
        until(lambda: under_way(proxy) == (400, 0))
        assert server.lines == []
        clock.by(3600.0)
        answers = [b"%d" % number for number in range(1, 201)]
        until(lambda: under_way(proxy) == (0, len(b"\n".join(answers)) + 1))
        assert len(server.lines) == 200
        clock.by(3600.0)
        assert [client.file.readline().strip() for _ in range(200)] == answers


def test_no_server_is_a_broken_connection() -> None:
    """With nobody upstream a client is accepted and hears nothing but the end."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with TcpProxy(taken.getsockname()[1]) as proxy:
            try:
                with Client(proxy.port) as client:
                    heard = outcome(client, b"a")
            except ConnectionError:
                heard = b"broken"
    assert heard == b"broken"


def test_a_latency_process_adds_its_time_and_ends(server: LineServer) -> None:
    """A round trip takes twice the latency at least; after the block the port is closed."""
    with latency(server.port, 0.05) as port, Client(port) as client:
        started = time.perf_counter()
        assert client.ask(b"a") == b"1"
        took = time.perf_counter() - started
    assert took > 0.095
    with pytest.raises(ConnectionError):
        Client(port)


def test_a_latency_process_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure is an error here, not a hanging test."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="did not start: it ended with code 1"), latency(1, 0.1) as port:
        assert port
