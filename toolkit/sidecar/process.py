"""
Child processes that never outlive their owner.

A ``ProcessSet`` owns the processes it starts: their logs go to files, leaving it ends all of them, and when the owner
itself is killed a watchdog ends them in its place.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from toolkit.sidecar.errors import ProcessStartError, SidecarError

_WATCHDOG: Final = Path(__file__).with_name("_watchdog.py")
_TAIL_BYTES: Final = 16_384


def tail(path: Path, lines: int = 20) -> str:
    """
    The last lines of a log file; empty when there is none yet.
    """
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def signal_group(process: subprocess.Popen[bytes], signum: int) -> None:
    """
    Send a signal to the process group that a child leads; nothing happens when the child was already waited for.
    """
    if process.returncode is not None:
        return
    try:
        os.killpg(process.pid, signum)
    except (ProcessLookupError, PermissionError):
        # Every member of the group ended meanwhile (macOS answers EPERM for a group of zombies).
        return


def wait_until_stopped(process: subprocess.Popen[bytes], timeout: float = 1.0) -> None:
    """
    Wait until a child that was sent SIGSTOP has stopped: the signal is only a request, and answers may still come.
    """
    stat = Path(f"/proc/{process.pid}/stat")
    end = time.monotonic() + timeout
    while stat.exists() and time.monotonic() < end:
        with suppress(OSError):
            if stat.read_text().rpartition(")")[2].split()[0] in "Tt":
                return
        time.sleep(0.005)


class Watchdog:
    """
    A small process that ends what is registered with it when this process dies.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, "-I", "-S", str(_WATCHDOG)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _tell(self, line: str) -> None:
        pipe = self._process.stdin
        if pipe is None:
            raise SidecarError("the watchdog was started without a pipe")
        try:
            pipe.write(os.fsencode(line + "\n"))
            pipe.flush()
        except BrokenPipeError:
            # Somebody killed the watchdog: orderly stops still work, only the crash of this process is not covered.
            return

    def add(self, pid: int, *, group: bool = True) -> None:
        """
        End this process, or the whole group it leads, when the owner dies.
        """
        self._tell(f"+{'group' if group else 'pid'} {pid}")

    def forget(self, pid: int, *, group: bool = True) -> None:
        """
        The process was waited for: its number may belong to somebody else from now on.
        """
        self._tell(f"-{'group' if group else 'pid'} {pid}")

    def remove(self, directory: Path) -> None:
        """
        Remove this directory when the owner dies.
        """
        self._tell(f"dir {directory}")

    def close(self) -> None:
        """
        Send the watchdog home without ending anything.
        """
        self._tell("done")
        try:
            self._process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


class ProcessSet:
    """
    Processes with one owner: started in groups of their own, logged to files, ended together.

    Not thread-safe: one thread starts and stops; signals may come from any.
    """

    def __init__(self, directory: Path, *, logs: Mapping[str, Path] | None = None) -> None:
        self._directory = directory
        self._logs = dict(logs or {})
        self._watchdog: Watchdog | None = None
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self._watchdog = Watchdog()
        self._watchdog.remove(self._directory)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def log_path(self, name: str) -> Path:
        """
        Where the output of the process of this name goes.
        """
        return self._logs.get(name) or self._directory / f"{name}.log"

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: str | None = None,
    ) -> subprocess.Popen[bytes]:
        """
        Start a command whose output is appended to the log of this name.

        ``user`` runs it as another account, for servers that refuse to run as root.
        """
        watchdog = self._watchdog
        if watchdog is None:
            raise RuntimeError("start() before entering the ProcessSet")
        with self.log_path(name).open("ab") as log:
            process = _popen(command, log, env, cwd, user)
        watchdog.add(process.pid)
        self._running.append(process)
        return process

    def stop(self, process: subprocess.Popen[bytes], *, grace: float, first: int = signal.SIGTERM) -> int:
        """
        Ask a process to end, kill its whole group after ``grace`` seconds, and return its code.
        """
        signal_group(process, signal.SIGCONT)
        signal_group(process, first)
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            signal_group(process, signal.SIGKILL)
            process.wait()
        self.forget(process)
        return process.returncode

    def forget(self, process: subprocess.Popen[bytes]) -> None:
        """
        Drop an ended process from the set.
        """
        if self._watchdog is not None:
            self._watchdog.forget(process.pid)
        if process in self._running:
            self._running.remove(process)

    def close(self, grace: float = 5.0) -> None:
        """
        End every process of the set, the youngest first.
        """
        for process in reversed(tuple(self._running)):
            self.stop(process, grace=grace)
        if self._watchdog is not None:
            self._watchdog.close()
            self._watchdog = None


def _popen(
    command: Sequence[str], log: IO[bytes], env: Mapping[str, str] | None, cwd: Path | None, user: str | None
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - what is started is the caller's to say
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=None if env is None else dict(env),
        cwd=cwd,
        user=user,
        group=None if user is None else pwd.getpwnam(user).pw_gid,
        extra_groups=None if user is None else (),
        start_new_session=True,
    )


def wait_until(
    ready: Callable[[], bool],
    process: subprocess.Popen[bytes],
    *,
    name: str,
    log: Path,
    timeout: float,
    on_wait: Callable[[], None] | None = None,
) -> None:
    """
    Poll until a started process answers; its end, or the timeout, is an error with the tail of its log.

    ``on_wait`` is called before every look and may raise to give up.
    """
    deadline = time.monotonic() + timeout
    pause = 0.01
    while True:
        if on_wait is not None:
            on_wait()
        if ready():
            return
        if process.poll() is not None:
            reason = f"{name} ended with code {process.returncode} while it was starting"
            raise ProcessStartError(reason, log_path=log, log_tail=tail(log))
        if time.monotonic() > deadline:
            reason = f"{name} was not ready within {timeout:g} s"
            raise ProcessStartError(reason, log_path=log, log_tail=tail(log))
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
