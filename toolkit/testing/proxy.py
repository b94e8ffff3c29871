"""
A gRPC proxy in front of a real sidecar that loses, repeats and delays calls.

It knows no message: requests and answers pass as bytes, so every method of every service goes through, streams
included. Faults hit unary calls, one seeded draw each::

    with FaultProxy(sidecar.grpc_port, seed=7, rates={"drop_reply": 0.15, "duplicate": 0.05}) as proxy:
        store = StateStore("statestore", address=f"127.0.0.1:{proxy.port}")

or exactly, call by call::

    proxy.next("SaveState", "drop_reply")

The proxy runs in a thread with a loop of its own and can be used from any thread.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from toolkit.testing._faults import Fault, check_names, check_rates, draw
from toolkit.testing._wire import Wire

WRITES: Final = frozenset({"SaveState", "DeleteState", "ExecuteStateTransaction"})
READS: Final = frozenset({"GetState", "GetBulkState"})


@dataclass(frozen=True, slots=True)
class Fired:
    """
    One fault that hit a call: when, by the monotonic clock in nanoseconds, which method, which fault.
    """

    at: int
    method: str
    fault: Fault


class FaultProxy:
    """
    A proxy on a free loopback port in front of a gRPC server.

    Faults, by name:

    - ``drop_request``: the server never sees the call; the client gets UNAVAILABLE.
    - ``drop_reply``: the server answers, then the client gets UNAVAILABLE.
    - ``duplicate``: the call is made twice in a row and the second answer is passed on.
    - ``late_duplicate``: the first answer is passed on; a copy follows once another write went through, or after
      ``late_after`` seconds.
    - ``delay``: the call is held back for up to ``delay`` seconds.
    - ``hang``: the server never sees the call and the client is never answered.

    Attributes:
        port: The port to connect to, once entered.
        calls: How many calls came in, by method: the round trips of a client.
        faults: How many faults fired, by (method, fault).
        log: Every fault that fired, in order.
    """

    def __init__(
        self,
        upstream: int | str,
        *,
        seed: int = 0,
        rates: Mapping[Fault, float] | None = None,
        methods: Iterable[str] = WRITES,
        delay: float = 0.2,
        late_after: float = 5.0,
        port: int = 0,
    ) -> None:
        self._upstream = f"127.0.0.1:{upstream}" if isinstance(upstream, int) else upstream
        self._random = random.Random(seed)  # noqa: S311 - it replays, it keeps no secret
        self._lock = threading.Lock()
        self._scripts: defaultdict[str, deque[Fault | None]] = defaultdict(deque)
        self._rates: dict[Fault, float] = {}
        self._methods = frozenset(methods)
        self.delay, self.late_after = delay, late_after
        self.port = port
        self.calls: Counter[str] = Counter()
        self.faults: Counter[tuple[str, Fault]] = Counter()
        self.log: list[Fired] = []
        self.set_rates(rates or {})
        self._wire: Wire | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._work, name="fault-proxy", daemon=True)
        self._ready = threading.Event()
        self._stopping: asyncio.Event | None = None
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise RuntimeError(f"the fault proxy did not start: {self._failure}") from self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """
        Stop at once; calls in flight end with UNAVAILABLE, late duplicates not sent yet are dropped.
        """
        if self._thread.is_alive() and self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    # Control ---------------------------------------------------------------------------------------------------------

    def set_rates(self, rates: Mapping[Fault, float], *, methods: Iterable[str] | None = None) -> None:
        """
        Replace the chances of the faults, and the methods they hit when *methods* is given.

        Raises:
            ValueError: An unknown fault, or chances that add up to more than one.
        """
        check_rates(rates)
        with self._lock:
            self._rates = dict(rates)
            self._methods = self._methods if methods is None else frozenset(methods)

    def next(self, method: str, *faults: Fault | None) -> None:
        """
        Script the next calls of *method*, one fault each, before any chance is drawn; ``None`` lets a call pass.
        """
        check_names(faults)
        with self._lock:
            self._scripts[method].extend(faults)

    def heal(self, *, timeout: float = 10.0) -> None:
        """
        Stop all faults, forget the script, and send every late duplicate still waiting.

        Afterwards nothing the proxy holds can reach the server any more, except calls that hang.
        """
        self.set_rates({})
        with self._lock:
            self._scripts.clear()
        if self._loop is not None and self._wire is not None:
            asyncio.run_coroutine_threadsafe(self._wire.flush(), self._loop).result(timeout)

    def reset_counts(self) -> None:
        """
        Set the counters to zero and empty the log.
        """
        with self._lock:
            self.calls.clear()
            self.faults.clear()
            self.log.clear()

    @property
    def round_trips(self) -> int:
        """
        All calls that came in.
        """
        with self._lock:
            return sum(self.calls.values())

    def decide(self, method: str) -> Fault | None:
        """
        Count a call of *method* and choose its fault: the script first, then one draw; the wire asks this.
        """
        with self._lock:
            self.calls[method] += 1
            script = self._scripts.get(method)
            fault = script.popleft() if script else self._draw(method)
            if fault is not None:
                self.faults[method, fault] += 1
                self.log.append(Fired(time.monotonic_ns(), method, fault))
            return fault

    def _draw(self, method: str) -> Fault | None:
        if not self._rates or method not in self._methods:
            return None
        return draw(self._rates, self._random)

    def is_write(self, method: str) -> bool:
        """
        Whether a call of *method* releases the late duplicates that wait for another write.
        """
        return method in WRITES or method in self._methods

    def hold(self) -> float:
        """
        Draw the length of a ``delay`` in seconds.
        """
        with self._lock:
            return self._random.uniform(0.1, 1.0) * self.delay

    # The thread ------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as failure:  # noqa: BLE001 - it is raised in the thread that entered the block
            self._failure = failure
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        wire: Any = Wire(self._upstream, self)
        self.port = await wire.start(self.port)
        self._wire = wire
        self._ready.set()
        await self._stopping.wait()
        await wire.stop()
