"""
Running a command beside a sidecar: what ``occ run`` does.

Whatever happens first ends all: the command's end, Ctrl-C, SIGTERM, the death of the sidecar, the death of this process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from types import FrameType
from typing import Final

from toolkit.sidecar.errors import SidecarError
from toolkit.sidecar.process import Watchdog
from toolkit.sidecar.sidecar import Sidecar

FAILED: Final = 1
NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL: Final = 0.1
_GRACE: Final = 10.0  # seconds that a command has to end after a signal
_LEFTOVERS: Final = 3.0  # seconds that processes have which the command left behind


class StartInterruptedError(SidecarError):
    """
    A signal came before the command was started.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name}")
        self.code = 128 + signum


class _Inbox:
    """
    Signals that came for us: they give up a start, and are passed on to a running command.

    They are only noted where they arrive. An exception from the handler could hit between the birth of a process and
    its registration, and nobody would end it.
    """

    def __init__(self) -> None:
        self.waiting: list[int] = []

    def take(self, signum: int, _frame: FrameType | None) -> None:
        self.waiting.append(signum)

    def check(self) -> None:
        """
        Give up the start when a signal came.
        """
        if self.waiting:
            raise StartInterruptedError(self.waiting[0])


@contextlib.contextmanager
def _signals() -> Generator[_Inbox]:
    inbox = _Inbox()
    before = {signum: signal.signal(signum, inbox.take) for signum in _SIGNALS}
    try:
        yield inbox
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def run_command(command: Sequence[str], sidecar: Sidecar, say: Callable[[str], None]) -> int:
    """
    Start the sidecar, run the command with its addresses in the environment, and return the command's exit code.

    ``say`` gets the lines meant for the user. A command that a signal ended counts as 128 + signal, as in a shell; 127
    when there is no such command, 126 when it cannot be executed; 1 when the sidecar died meanwhile.
    """
    program = shutil.which(command[0])
    if program is None:
        exists = os.path.exists(command[0])  # noqa: PTH110 - a name to look up, not a path to keep
        say(f"{command[0]}: {'is not an executable file' if exists else 'command not found'}")
        return NOT_EXECUTABLE if exists else NOT_FOUND
    with _signals() as inbox:
        sidecar.on_wait = inbox.check
        try:
            with sidecar:
                inbox.check()
                say(f"daprd is ready: gRPC {sidecar.grpc_endpoint}, HTTP {sidecar.http_endpoint}")
                try:
                    return _Command(command, sidecar, inbox, say).run()
                except OSError as error:
                    say(f"{command[0]}: {error.strerror}")
                    return NOT_EXECUTABLE
        except StartInterruptedError as interrupted:
            say(str(interrupted))
            return interrupted.code


class _Command:
    """
    The running command and its process group.

    With a terminal on stdin the command stays in our group, so that it may read the terminal and gets Ctrl-C from it;
    else it leads a group of its own, to which signals are passed and which is ended as a whole.
    """

    def __init__(
        self, command: Sequence[str], sidecar: Sidecar, inbox: _Inbox, say: Callable[[str], None]
    ) -> None:
        self._command, self._sidecar, self._inbox, self._say = command, sidecar, inbox, say
        self._owns_group = not (sys.stdin is not None and sys.stdin.isatty())

    def run(self) -> int:
        env = {**os.environ, **self._sidecar.environment}
        self._inbox.check()
        watchdog = Watchdog()
        try:
            process = subprocess.Popen(  # noqa: S603 - what the user asked to run
                self._command, env=env, process_group=0 if self._owns_group else None
            )
            watchdog.add(process.pid, group=self._owns_group)
            if not self._owns_group:
                # What came while the command was being born: nobody knows whether the terminal's reached it.
                for signum in self._inbox.waiting:
                    self._send(process, signum)
            try:
                return self._wait(process)
            finally:
                self._end(process, signal.SIGTERM, _LEFTOVERS)
                watchdog.forget(process.pid, group=self._owns_group)
        finally:
            watchdog.close()

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        deadline: float | None = None
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(_POLL)
                return code if code >= 0 else 128 - code
            while self._inbox.waiting:
                if self._pass_on(process, self._inbox.waiting.pop(0)) and deadline is None:
                    deadline = time.monotonic() + _GRACE
            if deadline is not None and time.monotonic() > deadline:
                self._say(f"{self._command[0]} did not end within {_GRACE:g} s after the signal: killed")
                self._send(process, signal.SIGKILL)
            if (ended := self._sidecar.returncode()) is not None:
                return self._without_sidecar(process, ended)

    def _pass_on(self, process: subprocess.Popen[bytes], signum: int) -> bool:
        """
        Hand a signal to the command; whether it has to end because of it.
        """
        if signum == signal.SIGINT and not self._owns_group:
            # The terminal has sent it to the command as well, which may live on: an interpreter's prompt does.
            return False
        self._send(process, signum)
        return True

    def _without_sidecar(self, process: subprocess.Popen[bytes], ended: int) -> int:
        tail = self._sidecar.log_tail()
        self._end(process, signal.SIGTERM, _GRACE)
        self._say(
            f"the sidecar ended with code {ended} while {self._command[0]} was running, which was stopped"
        )
        self._say(f"--- last lines of its log ---\n{tail}")
        return FAILED

    def _end(self, process: subprocess.Popen[bytes], signum: int, grace: float) -> None:
        """
        End the command and, where it leads a group, what it left behind in there.
        """
        deadline = time.monotonic() + grace
        self._send(process, signum)
        while self._lives(process) and time.monotonic() < deadline:
            time.sleep(0.02)
        self._send(process, signal.SIGKILL)
        process.wait()

    def _lives(self, process: subprocess.Popen[bytes]) -> bool:
        ended = process.poll() is not None
        return self._send(process, 0) if self._owns_group else not ended

    def _send(self, process: subprocess.Popen[bytes], signum: int) -> bool:
        try:
            if self._owns_group:
                os.killpg(process.pid, signum)
            elif process.returncode is None:
                process.send_signal(signum)
        except (ProcessLookupError, PermissionError):
            return False
        return True
