"""
Where records go: a file, and structlog.
"""

from __future__ import annotations

import functools
import os
import threading
from pathlib import Path
from typing import Any, Final

import msgspec

_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
_LEVELS: Final = {"info": 20, "warning": 30, "error": 40}


class FileSink:
    """
    Appends JSON lines to a file, each in one write, so that several processes can share it.

    ``{pid}`` in the path is the process; a forked child opens its own file. A file that was moved away (log rotation)
    is opened again.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._encode = msgspec.json.Encoder().encode
        self._lock = threading.Lock()
        self._torn = False
        self._looked = 0
        self._open()

    def _open(self) -> None:
        self._pid = os.getpid()
        real = Path(self.path.replace("{pid}", str(self._pid)))
        real.parent.mkdir(parents=True, exist_ok=True)
        self.file = str(real)
        self._fd = os.open(real, _FLAGS, 0o644)

    def write(self, record: dict[str, Any], seconds: int) -> None:
        """
        Append one record; *seconds* is the time now, used to look for a rotation once a second.

        Raises:
            OSError: The file cannot be written.
        """
        line = self._encode(record) + b"\n"
        with self._lock:
            if seconds != self._looked:
                self._looked = seconds
                self._reopen_if_moved()
            if self._torn:
                line = b"\n" + line
            written = os.write(self._fd, line)
            self._torn = written != len(line)
        if self._torn:
            raise OSError(f"only {written} of {len(line)} bytes fitted into {self.file}")

    def _reopen_if_moved(self) -> None:
        try:
            same = os.path.samestat(Path(self.file).stat(), os.fstat(self._fd))
        except FileNotFoundError:
            same = False
        if not same:
            os.close(self._fd)
            self._open()

    def after_fork(self) -> None:
        """
        Open this process's own file; called in the child.
        """
        self._lock = threading.Lock()
        os.close(self._fd)
        self._open()

    def close(self) -> None:
        """
        Close the file.
        """
        os.close(self._fd)


class StructlogSink:
    """
    Hands records to ``structlog.get_logger("occ")``, only where the application has configured structlog.
    """

    @functools.cached_property
    def _logger(self) -> Any:
        # Imported by the application by then: it costs tens of milliseconds to import for nothing.
        import structlog

        return structlog.get_logger("occ")

    def write(self, record: dict[str, Any]) -> None:
        """
        Log one record at its level.
        """
        fields = dict(record)
        name, level = fields.pop("event"), fields["level"]
        getattr(self._logger, level)(name, **fields)

    def wants(self, level: str) -> bool:
        """
        Whether the application's logger is on for this level; asked before a record is built.
        """
        enabled = getattr(self._logger.bind(), "is_enabled_for", None)
        return True if enabled is None else bool(enabled(_LEVELS[level]))
