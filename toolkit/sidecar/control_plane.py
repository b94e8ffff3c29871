"""
Placement and scheduler: what Dapr needs beside the sidecar for workflows, actors and reminders.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from toolkit.sidecar.binaries import Binaries, find
from toolkit.sidecar.errors import ProcessStartError
from toolkit.sidecar.ports import PORT_ATTEMPTS, PORT_TAKEN, free_ports
from toolkit.sidecar.process import ProcessSet, wait_until

_LOOPBACK: Final = "127.0.0.1"


class ControlPlane:
    """
    One placement and one scheduler on loopback, to be shared by any number of sidecars.

    Entering starts both and waits until they are healthy; leaving ends them and removes their data.
    """

    def __init__(
        self,
        *,
        binaries: Binaries | None = None,
        startup_timeout: float = 30.0,
        on_wait: Callable[[], None] | None = None,
    ) -> None:
        self._binaries = binaries
        self._startup_timeout = startup_timeout
        self._on_wait = on_wait
        self._stack = contextlib.ExitStack()
        self._placement_port = 0
        self._scheduler_port = 0

    def __enter__(self) -> Self:
        binaries = self._binaries or find()
        placement, scheduler = binaries.require_control_plane()
        with contextlib.ExitStack() as stack:
            directory = Path(tempfile.mkdtemp(prefix="occ-control-"))
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            processes = stack.enter_context(ProcessSet(directory))
            self._start(processes, "placement", lambda: self._placement_command(placement))
            self._start(processes, "scheduler", lambda: self._scheduler_command(scheduler, directory))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def arguments(self) -> list[str]:
        """
        What daprd has to be told to find them.
        """
        placement = f"{_LOOPBACK}:{self._placement_port}"
        scheduler = f"{_LOOPBACK}:{self._scheduler_port}"
        return ["--placement-host-address", placement, "--scheduler-host-address", scheduler]

    def _start(self, processes: ProcessSet, name: str, command: Callable[[], tuple[int, list[str]]]) -> None:
        log = processes.log_path(name)
        for attempt in range(1, PORT_ATTEMPTS + 1):
            health, line = command()
            process = processes.start(name, line)
            ready = functools.partial(_healthy, health)
            try:
                wait_until(
                    ready, process, name=name, log=log, timeout=self._startup_timeout, on_wait=self._on_wait
                )
            except ProcessStartError as error:
                processes.stop(process, grace=2.0)
                if attempt == PORT_ATTEMPTS or not PORT_TAKEN.search(error.log_tail):
                    raise
                log.unlink(missing_ok=True)
            else:
                return

    def _placement_command(self, program: Path) -> tuple[int, list[str]]:
        port, health, metrics, raft = free_ports(4)
        self._placement_port = port
        command = [str(program), *_common(port, health, metrics)]
        return health, [*command, "--initial-cluster", f"dapr-placement-0={_LOOPBACK}:{raft}"]

    def _scheduler_command(self, program: Path, directory: Path) -> tuple[int, list[str]]:
        port, health, metrics, client, peer = free_ports(5)
        self._scheduler_port = port
        command = [str(program), *_common(port, health, metrics)]
        # A data directory of its own per attempt: etcd refuses one that was made for other peer addresses.
        command += ["--etcd-data-dir", str(directory / f"scheduler-{port}")]
        command += ["--etcd-client-port", str(client), "--etcd-client-listen-address", _LOOPBACK]
        command += ["--etcd-initial-cluster", f"dapr-scheduler-server-0=http://{_LOOPBACK}:{peer}"]
        return health, [*command, "--override-broadcast-host-port", f"{_LOOPBACK}:{port}"]


def _common(port: int, health: int, metrics: int) -> list[str]:
    command = ["--port", str(port), "--listen-address", _LOOPBACK]
    command += ["--healthz-port", str(health), "--healthz-listen-address", _LOOPBACK]
    return [*command, "--metrics-port", str(metrics), "--metrics-listen-address", _LOOPBACK]


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection(_LOOPBACK, port, timeout=2)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
