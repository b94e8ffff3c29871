"""
A fixed network latency before a store or a sidecar, added by a process of its own.

``TcpProxy`` shares the interpreter lock with the test's threads, which costs milliseconds under load; here only the
operating system stands between::

    with latency(redis_port, 0.002) as port:
        ...  # each round trip through `port` takes 4 ms more, however many are under way
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

from toolkit.testing.tcp import TcpProxy


@contextmanager
def latency(upstream: int, seconds: float) -> Generator[int]:
    """
    Start a proxy process in front of the loopback port *upstream*; gives its port. It ends with the block, or with us.
    """
    command = [sys.executable, "-m", "toolkit.testing.latency", str(upstream), repr(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        if process.stdin is None or process.stdout is None:
            raise AssertionError("the pipes were asked for")
        try:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the latency proxy did not start: it ended with code {process.wait()}")
            yield int(line)
        finally:
            process.stdin.close()  # it reads to the end of this pipe, so it also ends when this process dies
            process.wait(10)


def main() -> None:
    """
    Serve until standard input ends.
    """
    upstream, seconds = int(sys.argv[1]), float(sys.argv[2])
    with TcpProxy(upstream, latency=seconds) as proxy:
        sys.stdout.write(f"{proxy.port}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
