"""
Many processes that do one thing at once; shared by the examples that show what happens then.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import BaseContext
from types import TracebackType
from typing import Any, Self

# A socket's path has at most 107 characters, and multiprocessing adds about 35.
LONGEST_SOCKET_FOLDER = 70

_start_line: Any = None
_began = 0.0


class Crowd:
    """
    So many processes, kept for several runs.

    Attributes:
        seconds: How long the last run took, from the start line until the last one was done.
    """

    def __init__(self, processes: int) -> None:
        # Not fork: a process that has talked gRPC must not be forked. The server loads the SDK once, for all.
        # It listens on a socket in the folder for temporary files, whose path may be too long for that.
        short = len(tempfile.gettempdir()) <= LONGEST_SOCKET_FOLDER
        context: BaseContext = multiprocessing.get_context("forkserver" if short else "spawn")
        context.set_forkserver_preload(["dapr.clients", "toolkit"])
        settings = context.Barrier(processes), context.Value("i", 0)
        self._pool = ProcessPoolExecutor(processes, context, _prepare, settings)
        self._processes = processes
        self.seconds = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def run(self, work: Callable[..., Any], *arguments: Any) -> list[Any]:
        """
        Call ``work(number, *arguments)`` in every process; it calls ``start`` when it is ready for the others.
        """
        jobs = [self._pool.submit(_timed, work, number, arguments) for number in range(self._processes)]
        results = [job.result() for job in jobs]
        self.seconds = max(ended for _, _, ended in results) - min(began for _, began, _ in results)
        return [result for result, _, _ in results]


def start() -> None:
    """
    Wait until every process is here.
    """
    global _began  # noqa: PLW0603 - one job at a time runs in a process
    _start_line.wait(60)
    _began = time.monotonic()


def _prepare(barrier: Any, numbers: Any) -> None:
    """
    Set up one process: Ctrl-C ends it at once, and the conflict log calls it by a name.
    """
    global _start_line  # noqa: PLW0603 - a pool hands a barrier to its processes in this way only
    _start_line = barrier
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with numbers.get_lock():
        numbers.value += 1
        os.environ["OCC_LOG_WRITER"] = f"desk-{numbers.value}"


def _timed(work: Callable[..., Any], number: int, arguments: tuple[Any, ...]) -> tuple[Any, float, float]:
    result = work(number, *arguments)
    return result, _began, time.monotonic()


# ------------------------------------------------------------------------------------------- what every loop by hand needs


def tries(seconds: float = 30.0) -> Iterator[int]:
    """
    Count tries, with a random pause before each but the first, until the time is up.
    """
    end = time.monotonic() + seconds
    attempt = 1
    while time.monotonic() < end:
        yield attempt
        time.sleep(random.uniform(0, min(0.002 * 2**attempt, 0.05)))
        attempt += 1
    raise TimeoutError(f"no luck within {seconds:g} s and {attempt} tries")


def retry_if(error: Exception, *statuses: str) -> None:
    """
    Return when the error has one of these gRPC statuses; otherwise raise it again.
    """
    import grpc

    status = error.code() if isinstance(error, grpc.RpcError) else None  # type: ignore[attr-defined]
    if getattr(status, "name", "") not in statuses:
        raise error
