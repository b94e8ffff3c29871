"""
A TCP proxy between a sidecar and its store: it cuts, resets, freezes and slows connections.

The fault that matters here is the reply lost below the sidecar: the store has applied a write, and the sidecar's driver
sees a broken connection and sends the write again::

    with TcpProxy(redis_port) as proxy:
        proxy.cut_after(b"k7")          # forward the next request that holds these bytes, drop the answer, hang up
        store.update("k7", inc)
        assert proxy.faults["cut"] == 1

Latency is added to each direction without limiting throughput: bytes leave in order, each a fixed time after it came.
The proxy runs in a thread with a loop of its own and can be used from any thread.
"""

from __future__ import annotations

import asyncio
import base64
import selectors
import socket
import struct
import threading
from collections import Counter, deque
from collections.abc import Callable
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias, cast

from typing_extensions import override

Fault: TypeAlias = Literal["cut", "reset"]
Match: TypeAlias = bytes | Callable[[bytes], bool]

# SO_LINGER with no time: close sends RST and drops what is buffered.
_RESET: Final = struct.pack("ii", 1, 0)


def _holds(needle: bytes) -> Callable[[bytes], bool]:
    """
    Whether data hold *needle*, plain or inside a longer text in base64, where it can start at three places of a group.
    """
    needles = [needle]
    for skipped, known in ((0, 0), (1, 2), (2, 3)):
        encoded = base64.b64encode(bytes(skipped) + needle).rstrip(b"=")
        # The first and the last character depend on the neighbours, unless the needle begins or ends with a group.
        inside = encoded[known:] if (skipped + len(needle)) % 3 == 0 else encoded[known:-1]
        if len(inside) >= 4:
            needles.append(inside)
    return lambda data: any(one in data for one in needles)


class TcpProxy:
    """
    A proxy on a free loopback port in front of a TCP server.

    Attributes:
        port: The port to connect to, once entered.
        latency: Seconds added to each direction; may be changed at any time, and is most exact when given at once.
        faults: How many faults fired, by name.
        connections: How many connections were made.
        requests: How many chunks came from clients: the round trips of a protocol that sends a request at a time.
    """

    def __init__(self, upstream: int | tuple[str, int], *, latency: float = 0.0, port: int = 0) -> None:
        self._upstream = ("127.0.0.1", upstream) if isinstance(upstream, int) else upstream
        self.port, self.latency = port, latency
        self.faults: Counter[Fault] = Counter()
        self.connections = 0
        self.requests = 0
        self._armed: deque[tuple[Fault, Callable[[bytes], bool]]] = deque()
        self._lock = threading.Lock()
        self._pairs: set[_Pair] = set()
        self._frozen = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="tcp-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise RuntimeError(f"the TCP proxy did not start: {self._failure}") from self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """
        Stop, and close every connection.
        """
        if self._thread.is_alive() and self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    # Control ---------------------------------------------------------------------------------------------------------

    def cut_after(self, match: Match = b"", *, times: int = 1) -> None:
        """
        Forward each of the next *times* requests that match, swallow the first answer to it, and close both sides.

        The answer shows that the server is done with the request. *match* is bytes that the request holds, as they are
        or in base64 (as Dapr stores values in MySQL), or a function of the chunk that came.
        """
        self._arm("cut", match, times)

    def reset_on(self, match: Match = b"", *, times: int = 1) -> None:
        """
        Reset the connection of each of the next *times* requests that match, without forwarding it.
        """
        self._arm("reset", match, times)

    def disarm(self) -> None:
        """
        Forget what is armed and did not fire.
        """
        with self._lock:
            self._armed.clear()

    def reset_all(self) -> None:
        """
        Reset every open connection now.
        """
        self._call(self._reset_pairs)

    def freeze(self) -> None:
        """
        Pass no more bytes; connections stay open and new ones are accepted.
        """
        self._call(lambda: self._set_frozen(frozen=True))

    def resume(self) -> None:
        """
        Pass what was held, and everything after it.
        """
        self._call(lambda: self._set_frozen(frozen=False))

    def _arm(self, fault: Fault, match: Match, times: int) -> None:
        matches = match if callable(match) else _holds(match)
        with self._lock:
            for _ in range(times):
                self._armed.append((fault, matches))

    def fault_for(self, data: bytes) -> Fault | None:
        """
        Count a request and take the armed fault it matches, if any; the connection asks this.
        """
        with self._lock:
            self.requests += 1
            for armed in self._armed:
                fault, matches = armed
                if matches(data):
                    self._armed.remove(armed)
                    self.faults[fault] += 1
                    return fault
            return None

    def _call(self, action: Callable[[], None]) -> None:
        if self._loop is None:
            raise RuntimeError("the TCP proxy is not running: enter it first")
        done = threading.Event()

        def run() -> None:
            action()
            done.set()

        self._loop.call_soon_threadsafe(run)
        done.wait(10)

    def _reset_pairs(self) -> None:
        for pair in tuple(self._pairs):
            pair.reset()

    def _set_frozen(self, *, frozen: bool) -> None:
        self._frozen = frozen
        for pair in tuple(self._pairs):
            pair.hold(frozen=frozen)

    # The thread ------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            # epoll waits whole milliseconds, select microseconds: what a fixed latency needs, below 1,000 connections.
            selector = selectors.SelectSelector() if self.latency else selectors.DefaultSelector()
            with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
                runner.run(self._serve())
        except BaseException as failure:  # noqa: BLE001 - it is raised in the thread that entered the block
            self._failure = failure
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        self._loop, self._stopping = loop, asyncio.Event()
        server = await loop.create_server(self._accept, "127.0.0.1", self.port, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopping.wait()
        server.close()
        for pair in tuple(self._pairs):
            pair.close()

    def _accept(self) -> _Side:
        self.connections += 1
        pair = _Pair(self, self._upstream, frozen=self._frozen)
        self._pairs.add(pair)
        pair.gone = self._pairs.discard
        return pair.client


class _Pair:
    """
    A client's connection and its connection to the server.
    """

    def __init__(self, proxy: TcpProxy, upstream: tuple[str, int], *, frozen: bool) -> None:
        self.proxy, self._upstream = proxy, upstream
        self.gone: Callable[[_Pair], None] = lambda _: None
        self.client, self.server = _Side(self, asks=True), _Side(self, asks=False)
        self.client.other, self.server.other = self.server, self.client
        self.cutting = False
        self._task: asyncio.Task[None] | None = None
        if frozen:
            self.hold(frozen=True)

    def connect(self) -> None:
        self._task = asyncio.create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self.server, *self._upstream)
        except OSError:
            self.reset()  # the client sees what the server's host would answer: nobody there

    def hold(self, *, frozen: bool) -> None:
        self.client.hold(frozen=frozen)
        self.server.hold(frozen=frozen)

    def close(self) -> None:
        for side in (self.client, self.server):
            if side.transport is not None:
                side.transport.abort()
        self.gone(self)

    def reset(self) -> None:
        for side in (self.client, self.server):
            if side.transport is not None:
                sock = cast("socket.socket | None", side.transport.get_extra_info("socket"))
                if sock is not None and not side.transport.is_closing():
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()


class _Side(asyncio.Protocol):
    """
    One socket: what comes in here goes out at the other side, later by the latency.
    """

    def __init__(self, pair: _Pair, *, asks: bool) -> None:
        self._pair, self._asks = pair, asks
        self.other: _Side | None = None
        self.transport: asyncio.Transport | None = None
        self._queue: deque[tuple[float, bytes | None]] = deque()  # what to send here, and when; None ends
        self._timer: asyncio.TimerHandle | None = None
        self._frozen = False

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        sock = cast("socket.socket", transport.get_extra_info("socket"))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._asks:
            self._pair.connect()
        self._send()

    @override
    def data_received(self, data: bytes) -> None:
        pair = self._pair
        if self._asks:
            fault = pair.proxy.fault_for(data)
            if fault == "reset":
                pair.reset()
                return
            pair.cutting = pair.cutting or fault == "cut"
        elif pair.cutting:
            pair.close()
            return
        self._pass(data)

    @override
    def eof_received(self) -> bool:
        self._pass(None)
        return True  # the other direction may still have something to say

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._pass(None)
        if self._asks:
            self._pair.gone(self._pair)

    @override
    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    @override
    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def hold(self, *, frozen: bool) -> None:
        self._frozen = frozen
        self._send()

    def _pass(self, data: bytes | None) -> None:
        if self.other is not None:
            due = asyncio.get_running_loop().time() + self._pair.proxy.latency
            self.other.queue(due, data)

    def queue(self, due: float, data: bytes | None) -> None:
        self._queue.append((due, data))
        self._send()

    def _send(self) -> None:
        """
        Send everything that is due, and come back for the rest.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.transport is None or self._frozen or self.transport.is_closing():
            return
        loop = asyncio.get_running_loop()
        while self._queue and self._queue[0][0] <= loop.time():
            _, data = self._queue.popleft()
            if data is None:
                self.transport.close()
                return
            self.transport.write(data)
        if self._queue:
            self._timer = loop.call_at(self._queue[0][0], self._send)
