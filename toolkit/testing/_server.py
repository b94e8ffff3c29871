"""
The life of one database server in a test: found, prepared, started on a free port, crashed, restarted, removed.
"""

from __future__ import annotations

import abc
import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Self

from toolkit.sidecar.errors import ProcessStartError, ServerUnavailable, SidecarError
from toolkit.sidecar.ports import free_ports
from toolkit.sidecar.process import ProcessSet, signal_group, tail, wait_until

LOOPBACK: Final = "127.0.0.1"
_ATTEMPTS: Final = 3
_START_TIMEOUT: Final = 60.0
# Where distributions put programs that are not meant for everybody's PATH.
_PROGRAM_PLACES: Final = (
    "/usr/sbin",
    "/usr/local/sbin",
    "/usr/libexec",
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
)


class Server(abc.ABC):
    """
    One server process with a data directory of its own.

    ``kill``, ``freeze``, ``resume`` and ``restart`` are for tests of faults; a restart keeps port and data.

    Attributes:
        host: Always loopback.
        port: Its port, new for every run.
        user: The account to log in with; empty when the server has none.
        password: Its password, drawn for every run.
        database: The database, where there is such a thing.
    """

    package: ClassVar[str]
    programs: ClassVar[tuple[str, ...]]
    accounts: ClassVar[tuple[str, ...]] = ()
    stop_signal: ClassVar[int] = signal.SIGTERM
    default_user: ClassVar[str] = ""
    default_database: ClassVar[str] = ""

    def __init__(self) -> None:
        self.host = LOOPBACK
        self.port = 0
        self.user = self.default_user
        self.password = secrets.token_hex(12)
        self.database = self.default_database
        self._stack = contextlib.ExitStack()
        self._processes: ProcessSet | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._account: str | None = None
        self._directory = Path()
        self._programs: dict[str, str] = {}

    @classmethod
    def find(cls) -> dict[str, str]:
        """
        The paths of the server's programs, or ``ServerUnavailable`` naming the package to install.
        """
        found: dict[str, str] = {}
        for names in cls.programs:
            path = _which(names.split("|"))
            if path is None:
                raise ServerUnavailable(
                    f"{cls.__name__} needs {names.replace('|', ' or ')}, which is not installed here; on Debian and "
                    f"Ubuntu: RUNLEVEL=1 apt-get install {cls.package}"
                )
            found[names.split("|")[0]] = path
        return found

    def __enter__(self) -> Self:
        self._programs = self.find()
        self._account = _unprivileged(self.accounts)
        with contextlib.ExitStack() as stack:
            self._directory = Path(tempfile.mkdtemp(prefix=f"occ-{type(self).__name__.lower()}-"))
            stack.callback(remove_tree, self._directory)
            self._processes = stack.enter_context(ProcessSet(self._directory))
            self._make_data()
            self._start_on_a_free_port()
            # The data is scrap from here on: an orderly end would only write it out.
            stack.callback(self.kill)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @abc.abstractmethod
    def component(self, name: str) -> dict[str, Any]:
        """
        The Dapr state component of this name that reaches the server.
        """

    @abc.abstractmethod
    def _command(self) -> Sequence[str]: ...

    @abc.abstractmethod
    def _ready(self) -> bool: ...

    def _prepare(self) -> None:  # noqa: B027 - most servers fill an empty data directory themselves
        """
        Fill the empty data directory, where the server does not do so itself.
        """

    @property
    def data(self) -> Path:
        return self._directory / "data"

    # -- faults ----------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """
        Crash the server; harmless when it is down already.
        """
        process, processes = self._running()
        signal_group(process, self._crash_signal())
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            signal_group(process, signal.SIGKILL)
            process.wait()
        processes.forget(process)

    def freeze(self) -> None:
        """
        Stop the server without ending it: connections stay open, nothing answers.
        """
        signal_group(self._running()[0], signal.SIGSTOP)

    def resume(self) -> None:
        """
        Let a frozen server go on.
        """
        signal_group(self._running()[0], signal.SIGCONT)

    def restart(self) -> None:
        """
        Start the server again, on the same port and data, ending it first when it still runs.
        """
        process, processes = self._running()
        if process.poll() is None:
            processes.stop(process, grace=10.0, first=self.stop_signal)
        self._launch()

    def _crash_signal(self) -> int:
        return signal.SIGKILL

    # -- starting --------------------------------------------------------------------------------------------------

    def _running(self) -> tuple[subprocess.Popen[bytes], ProcessSet]:
        if self._process is None or self._processes is None:
            raise RuntimeError(f"{type(self).__name__} does not run: enter it first")
        return self._process, self._processes

    def _make_data(self) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            self._make_directory()
            try:
                self._prepare()
            except ProcessStartError:
                # MariaDB's installer ends early now and then on a loaded machine, and works at the next try.
                if attempt == _ATTEMPTS:
                    raise
                remove_tree(self.data)
            else:
                return

    def _make_directory(self) -> None:
        self.data.mkdir(mode=0o700)
        if self._account is not None:
            self._directory.chmod(0o711)
            shutil.chown(self.data, self._account, pwd.getpwnam(self._account).pw_gid)

    def _run(self, command: Sequence[str]) -> None:
        """
        Run a program that prepares the data, under the account of the server.
        """
        processes = self._processes
        if processes is None:
            raise RuntimeError(f"{type(self).__name__} does not run: enter it first")
        process = processes.start("prepare", command, cwd=self.data, user=self._account)
        code = process.wait(_START_TIMEOUT)
        processes.forget(process)
        if code != 0:
            log = processes.log_path("prepare")
            raise ProcessStartError(f"{command[0]} ended with code {code}", log_path=log, log_tail=tail(log))

    def _start_on_a_free_port(self) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            (self.port,) = free_ports(1)
            try:
                self._launch()
            except ProcessStartError as error:
                if attempt == _ATTEMPTS or "in use" not in error.log_tail:
                    raise
            else:
                return

    def _launch(self) -> None:
        processes = self._processes
        if processes is None:
            raise RuntimeError(f"{type(self).__name__} does not run: enter it first")
        name = type(self).__name__.lower()
        self._process = processes.start(name, self._command(), cwd=self.data, user=self._account)
        try:
            log = processes.log_path(name)
            wait_until(self._ready, self._process, name=name, log=log, timeout=_START_TIMEOUT)
        except BaseException:
            processes.stop(self._process, grace=1.0)
            raise


def _which(names: Sequence[str]) -> str | None:
    root = Path("/")
    places = [str(path) for place in _PROGRAM_PLACES for path in sorted(root.glob(place[1:]), reverse=True)]
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), *places])
    return next((path for name in names if (path := shutil.which(name, path=search)) is not None), None)


def _unprivileged(accounts: Sequence[str]) -> str | None:
    """
    The account to run a server under that refuses root: the first that exists; None when this is not root anyway.
    """
    if not accounts or os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    for name in (*accounts, "nobody"):
        if name in known:
            return name
    raise SidecarError(
        f"none of the accounts {', '.join(accounts)}, nobody exists; the server refuses to run as root"
    )


def say(port: int, request: bytes, count: int) -> bytes:
    """
    Connect, send, and return the first bytes of the answer; empty when nothing listens.
    """
    try:
        with socket.create_connection((LOOPBACK, port), timeout=2) as connection:
            connection.sendall(request)
            return connection.recv(count)
    except OSError:
        return b""


def remove_tree(directory: Path) -> None:
    """
    Remove a directory of scrap data, whatever a server still drops into it while it ends.
    """
    shutil.rmtree(directory, ignore_errors=True)
