"""
Histories: what concurrent clients asked and heard, as JSON lines, the only input of the checkers.

One line per operation::

    {"id": 17, "proc": "w3", "f": "cas", "key": "k4", "arg": [7, 8], "out": true, "type": "ok", "call": 123, "ret": 456}

``type`` is ``ok`` (answered), ``fail`` (certainly not applied) or ``info`` (anything else). ``call`` is taken before
the first byte leaves and ``ret`` after the last one came, in nanoseconds of the monotonic clock, which all processes
of one machine share. A transaction has ``mops`` instead of ``key``: ``[["r", "x", [1, 2]], ["append", "y", 9]]``.

An operation is also written when it starts, as ``"type": "invoke"``, so that the calls of a killed process are in the
history: an invocation that never ended counts as ``info``.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias

Kind: TypeAlias = Literal["ok", "fail", "info"]

# Process id and count in one number below 2**53, which every JSON reader keeps exact.
_IDS: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Op:
    """
    One finished operation of a history.

    Attributes:
        ret: When it ended; ``None`` when it never did.
        mops: The operations of a transaction, with what its reads saw; empty for a single-key operation.
        extra: Members a checker does not look at: ``op``, ``fault``, ``store``.
    """

    id: int
    proc: Any
    f: str
    type: Kind
    call: int
    ret: int | None
    key: str = ""
    arg: Any = None
    out: Any = None
    mops: tuple[tuple[str, str, Any], ...] = ()
    extra: dict[str, Any] = field(default_factory=dict[str, Any])


class History:
    """
    A recorder that threads and processes share by the path of one file.

    Every line is one ``write`` on a descriptor opened for appending, so lines of several processes do not mix. Give
    ``clock`` for virtual time.
    """

    def __init__(self, path: Path | str, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.path = Path(path)
        self._clock = clock
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._count = itertools.count()
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """
        Close the file; calls still open count as ``info``.
        """
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
            self._file = -1

    def header(self, **facts: Any) -> None:
        """
        Write a line of facts about the run: seed, fault log, versions.
        """
        self.write({"type": "header", **facts})

    def call(self, proc: Any, f: str, key: str = "", arg: Any = None, **extra: Any) -> Pending:
        """
        Record that *proc* is about to do *f*; end it by ``ok``, ``fail`` or ``info`` of what this returns.
        """
        row: dict[str, Any] = {"id": self._next_id(), "proc": proc, "f": f}
        if key:
            row |= {"key": key, "arg": arg}
        row |= extra
        pending = Pending(self, row, self._clock)
        self.write({**row, "type": "invoke", "call": pending.start})
        return pending

    def transaction(self, proc: Any, mops: Sequence[Sequence[Any]], **extra: Any) -> Pending:
        """
        Record that *proc* is about to run a transaction of *mops*; ``ok`` takes them with the reads filled in.
        """
        return self.call(proc, "txn", mops=mops, **extra)

    def _next_id(self) -> int:
        pid = os.getpid()
        with self._lock:
            if pid != self._pid:  # after a fork the count goes on, under the child's own number
                self._pid = pid
            return pid * _IDS + next(self._count)

    def write(self, row: dict[str, Any]) -> None:
        """
        Append one line; ``call`` and ``header`` make the usual ones.
        """
        line = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if self._file < 0:
                raise RuntimeError(f"the history {self.path} is closed")
            written = os.write(self._file, line)
        if written != len(line):
            raise OSError(
                f"{self.path}: only {written} of {len(line)} bytes of a line were written: is the disk full?"
            )


class Pending:
    """
    An operation under way.
    """

    __slots__ = ("_clock", "_history", "_row", "start")

    def __init__(self, history: History, row: dict[str, Any], clock: Callable[[], int]) -> None:
        self._history, self._row, self._clock = history, row, clock
        self.start = clock()

    def ok(self, out: Any = None, *, mops: Sequence[Sequence[Any]] | None = None, **extra: Any) -> None:
        """
        It was answered: *out* is what the caller heard.
        """
        ret = self._clock()
        if mops is None:
            extra["out"] = out
        else:
            extra["mops"] = mops
        self._end("ok", ret, extra)

    def fail(self, **extra: Any) -> None:
        """
        It certainly was not and never will be applied.
        """
        self._end("fail", self._clock(), extra)

    def info(self, **extra: Any) -> None:
        """
        Nobody knows: it may be applied at any time from now on, or never.
        """
        self._end("info", self._clock(), extra)

    def _end(self, kind: Kind, ret: int, extra: dict[str, Any]) -> None:
        self._history.write({**self._row, **extra, "type": kind, "call": self.start, "ret": ret})


_MEMBERS: Final = frozenset({"id", "proc", "f", "type", "call", "ret", "key", "arg", "out", "mops"})


def parse(lines: Iterable[str | bytes]) -> tuple[list[Op], list[dict[str, Any]]]:
    """
    Read a history: its operations in the order of their calls, and its header lines.

    A last line cut short by a kill is left out.

    Raises:
        ValueError: A line in the middle is not JSON, or a member is missing.
    """
    rows: dict[int, dict[str, Any]] = {}
    headers: list[dict[str, Any]] = []
    broken: tuple[int, str] | None = None
    for number, line in enumerate(lines, 1):
        if broken is not None:
            raise ValueError(f"line {broken[0]} of the history is not JSON: {broken[1]}")
        if not line.strip():
            continue
        try:
            row: dict[str, Any] = json.loads(line)
        except ValueError as error:
            broken = number, str(error)
            continue
        if row.get("type") == "header":
            headers.append(row)
        elif row["type"] != "invoke" or row["id"] not in rows:
            rows[row["id"]] = row
    return sorted(map(_op, rows.values()), key=lambda op: op.call), headers


def load(path: Path | str) -> list[Op]:
    """
    Read the operations of a history file, in the order of their calls.
    """
    with Path(path).open("rb") as file:
        return parse(file)[0]


def export(path: Path | str, target: Path | str, **facts: Any) -> None:
    """
    Append a finished history to *target* for another checker: a header with *facts*, then one line for each operation, in
    the order of their calls; what never ended is ``info`` and has no ``ret``.
    """
    rows: list[dict[str, Any]] = [{"type": "header", **facts}]
    for op in load(path):
        what = {"mops": op.mops} if op.mops else {"key": op.key, "arg": op.arg, "out": op.out}
        rows.append(
            {"id": op.id, "proc": op.proc, "f": op.f, **what, "type": op.type, "call": op.call, "ret": op.ret}
            | op.extra
        )
    with Path(target).open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)


def _op(row: dict[str, Any]) -> Op:
    missing = {"id", "f", "type", "call"} - row.keys()
    if missing:
        raise ValueError(f"the operation {row.get('id')} of the history has no {', '.join(sorted(missing))}")
    ended = row["type"] in ("ok", "fail", "info")
    return Op(
        id=row["id"],
        proc=row.get("proc"),
        f=row["f"],
        type=row["type"] if ended else "info",
        call=row["call"],
        ret=row.get("ret") if ended else None,
        key=row.get("key", ""),
        arg=row.get("arg"),
        out=row.get("out"),
        mops=tuple((mop[0], mop[1], mop[2] if len(mop) > 2 else None) for mop in row.get("mops", ())),
        extra={name: value for name, value in row.items() if name not in _MEMBERS},
    )
