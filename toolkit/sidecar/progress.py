"""
Showing that a long build still lives: a bar on a terminal, a line now and then in a log.
"""

from __future__ import annotations

import contextlib
import sys
import time
from types import TracebackType
from typing import IO, TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

_QUIET: Final = 10.0  # seconds between two lines where no terminal shows a bar


class Progress:
    """
    Counts what a build reports, on standard error.

    On a terminal, and with rich installed, a bar; else a line every ten seconds.
    """

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr
        self._rich: RichProgress | None = None
        self._task: TaskID | None = None
        self._stack = contextlib.ExitStack()
        self._name = ""
        self._total: int | None = None
        self._count = 0
        self._spoken = 0.0

    def __enter__(self) -> Self:
        if self._stream.isatty():
            self._rich = _rich_progress(self._stream)
            if self._rich is not None:
                self._stack.enter_context(self._rich)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rich is not None and self._task is not None and error is None:
            self._rich.update(self._task, total=self._count or 1, completed=self._count or 1)
        self._stack.close()

    def step(self, name: str, total: int | None = None) -> None:
        """
        A new part of the work begins; ``total`` is the most that it can report.
        """
        if self._rich is not None:
            if self._task is not None:
                self._rich.update(self._task, total=self._count or 1, completed=self._count or 1)
            self._task = self._rich.add_task(name, total=total)
        self._name, self._total, self._count = name, total, 0
        self._speak(name)

    def advance(self, what: str) -> None:
        """
        One more package was fetched or compiled.
        """
        self._count += 1
        if self._rich is not None and self._task is not None:
            self._rich.update(self._task, completed=self._count)
            return
        if time.monotonic() - self._spoken >= _QUIET:
            of = f" of at most {self._total}" if self._total else ""
            self._speak(f"{self._name}: {self._count}{of} ({what.removeprefix('go: ')})")

    def _speak(self, line: str) -> None:
        if self._rich is None:
            self._stream.write(f"==> {line}\n")
            self._stream.flush()
        self._spoken = time.monotonic()


def _rich_progress(stream: IO[str]) -> RichProgress | None:
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar
    except ImportError:
        return None
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Bar(*columns, console=Console(file=stream))
