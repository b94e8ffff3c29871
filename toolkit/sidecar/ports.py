"""
Free TCP ports on loopback.
"""

from __future__ import annotations

import contextlib
import errno
import random
import re
import socket
from typing import Final

# Below the range from which systems take the ports of outgoing connections (32768 on Linux, 49152 elsewhere):
# between the choice and the listening server nobody but another server can take the port.
_FIRST: Final = 20_000
_LAST: Final = 32_767
# What a lost race for a port looks like in the log of a Go program, and how often to try again.
PORT_TAKEN: Final = re.compile(r"address already in use|bind: |could not listen on any endpoint")
PORT_ATTEMPTS: Final = 5
_RANDOM: Final = random.SystemRandom()


def free_ports(count: int) -> tuple[int, ...]:
    """
    Different ports that nobody listens on at this moment.

    Another process can still be faster: whoever starts a server retries with new ports.
    """
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            port = _RANDOM.randint(_FIRST, _LAST)
            probe = held.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise
                continue
            ports.append(port)
        return tuple(ports)
