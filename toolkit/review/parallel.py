"""
A review by several processes, each reading its stretch of time from all files.

A worker also reads a little before and after its stretch, only to know who won: so the join finds across the cuts what it
finds in one pass.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Final

from toolkit.review import run
from toolkit.review.axis import seconds_of
from toolkit.review.engine import Review
from toolkit.review.join import WINDOW
from toolkit.review.merging import merge
from toolkit.review.query import Query
from toolkit.review.reading import STDIN, expand, first_time

# What a worker must have to do before it is worth starting.
LEAST_BYTES: Final = 48_000_000
# Read around a stretch at most: this share of it, and so many bytes; it holds far more than the winners of its first losers.
FRINGE_SHARE: Final = 8
FRINGE_BYTES: Final = 24_000_000
MOST_WORKERS: Final = 4
_LOOK: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Part:
    """
    A worker's stretch of one file, in bytes: from ``begin`` to ``end``, with fringes on both sides.
    """

    name: str
    before: int
    begin: int
    end: int
    after: int


def time_at(file: IO[bytes], offset: int) -> float | None:
    """
    The time of the first whole line after *offset*.
    """
    file.seek(offset)
    if offset:
        file.readline(2 * _LOOK)
    return seconds_of(first_time(file.read(_LOOK)))


def offset_at(file: IO[bytes], size: int, moment: float) -> int:
    """
    The beginning of the first line that is not before *moment*, in a file whose lines are in order.
    """
    low, high = 0, size
    while high - low > _LOOK:
        middle = (low + high) // 2
        when = time_at(file, middle)
        if when is None or when >= moment:
            high = middle
        else:
            low = middle
    file.seek(low)
    at = low + (len(file.readline()) if low else 0)
    file.seek(at)
    while line := file.readline():
        when = seconds_of(first_time(line))
        if when is not None and when >= moment:
            return at
        at += len(line)
    return size


def line_at(file: IO[bytes], offset: int) -> int:
    """
    Where the first whole line at or after *offset* begins.
    """
    if offset <= 0:
        return 0
    file.seek(offset - 1)
    file.readline()
    return file.tell()


def _plain(name: str) -> bool:
    path = Path(name)
    if name == STDIN or not path.is_file():
        return False
    with path.open("rb") as file:
        return (
            file.read(4) not in (b"", b"\x28\xb5\x2f\xfd")
            and file.seek(0) == 0
            and file.read(2) != b"\x1f\x8b"
        )


def plan(names: Sequence[str], workers: int) -> tuple[float, list[list[Part]]] | None:
    """
    The time the log begins and each worker's parts; None where one process does as well.
    """
    if workers < 2 or not names or not all(_plain(name) for name in names):
        return None
    sizes = {name: Path(name).stat().st_size for name in names}
    workers = min(workers, MOST_WORKERS, sum(sizes.values()) // LEAST_BYTES)
    if workers < 2:
        return None
    files: dict[str, IO[bytes]] = {name: Path(name).open("rb") for name in names}  # noqa: SIM115 - closed below
    try:
        return _cut(files, sizes, workers)
    finally:
        for file in files.values():
            file.close()


def _cut(
    files: dict[str, IO[bytes]], sizes: dict[str, int], workers: int
) -> tuple[float, list[list[Part]]] | None:
    begins = [when for file in files.values() if (when := time_at(file, 0)) is not None]
    largest = max(files, key=lambda name: sizes[name])
    cuts = [time_at(files[largest], sizes[largest] * n // workers) for n in range(1, workers)]
    known = [cut for cut in cuts if cut is not None]
    if not begins or len(known) != len(cuts):
        return None
    edges = [min(begins), *known]
    if any(later <= earlier for earlier, later in pairwise(edges)):
        return None
    parts: list[list[Part]] = [[] for _ in range(workers)]
    for name, file in files.items():
        size = sizes[name]
        fringe = min(FRINGE_BYTES // len(files), size // workers // FRINGE_SHARE)
        inner = [offset_at(file, size, cut) for cut in known]
        at = [0, *inner, size]
        before, after = [0], list[int]()
        for cut, offset in zip(known, inner, strict=True):
            before.append(max(offset_at(file, size, cut - WINDOW), line_at(file, offset - fringe)))
            after.append(min(offset_at(file, size, cut + WINDOW), line_at(file, offset + fringe)))
        after.append(size)
        for n in range(workers):
            parts[n].append(Part(name, before[n], at[n], at[n + 1], after[n]))
    return min(begins) // 1, parts


def _work(job: str, target: Path, told: Callable[[int], None]) -> bool:
    command = [sys.executable, "-m", "toolkit.review.worker", str(target)]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own module
    assert worker.stdin is not None
    assert worker.stdout is not None
    with worker:
        worker.stdin.write(job)
        worker.stdin.close()
        for line in worker.stdout:
            told(int(line))
    return worker.returncode == 0


def review(
    files: Sequence[str],
    *,
    query: Query | None = None,
    by: str = "writer",
    progress: Callable[[int], None] | None = None,
    workers: int | None = None,
) -> Review:
    """
    Read *files* into a ``Review``, by several processes where that is faster; the answer is the same.

    Raises:
        InputError: A name leads nowhere.
    """
    names = expand(files)
    planned = plan(names, workers or os.cpu_count() or 1) if query in (None, Query()) else None
    if planned is None:
        return run.review(names, query=query, by=by, progress=progress)
    origin, parts = planned
    done, right = [0] * len(parts), [False] * len(parts)
    with tempfile.TemporaryDirectory(prefix="occ-log-") as folder:

        def start(n: int) -> None:
            def told(count: int) -> None:
                done[n] = count
                if progress is not None:
                    progress(sum(done))

            job = json.dumps({"by": by, "origin": origin, "parts": [asdict(part) for part in parts[n]]})
            right[n] = _work(job, Path(folder) / str(n), told)

        threads = [threading.Thread(target=start, args=(n,)) for n in range(len(parts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if not all(right):
            # A worker was killed, or a file vanished meanwhile: one process reads what there is.
            return run.review(names, query=query, by=by, progress=progress)
        found: Review = pickle.loads((Path(folder) / "0").read_bytes())  # noqa: S301 - our own file in a private folder
        for n in range(1, len(parts)):
            merge(found, pickle.loads((Path(folder) / str(n)).read_bytes()))  # noqa: S301 - as above
    found.intake.files = list(names)
    return found
