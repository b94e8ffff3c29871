"""
How fast a conflict log is read, beside a bare msgspec decode of the same file, and how much memory that takes.

``OCC_BENCH_EVENTS`` sets the size (10,000,000); up to two millions the best of three rounds counts. The log is one
simulated stretch repeated day after day, so that writing it does not take longer than reading it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from bench.report import Row, save
from toolkit.review import answers, parallel
from toolkit.review.engine import Review
from toolkit.review.quick import RateCounter, TopCounter
from toolkit.review.records import DECODER
from toolkit.review.run import pour
from toolkit.review.simulate import Truth, Workload, write_logs

EVENTS = int(os.environ.get("OCC_BENCH_EVENTS", "10_000_000"))
ROUNDS = 1 if EVENTS > 2_000_000 else 3
STRETCH = 250_000
# Events of the log in two files that two processes read.
IN_HALVES = 2_000_000
DAY = b'"timestamp":"2026-01-05T'


def prepare(path: Path) -> tuple[Truth, int, int]:
    """
    Write the log; answers the truth of one stretch, how many there are, and the events in all.
    """
    stretch = path.with_suffix(".stretch")
    load = Workload(operations=STRETCH, keys=5_000, writers=8, rate=1_000.0, skew=0.9)
    truth = write_logs(load, str(stretch))
    raw = stretch.read_bytes()
    lines = raw.count(b"\n")
    copies = max(1, EVENTS // lines)
    with path.open("wb") as file:
        for copy in range(copies):
            month, day = divmod(copy, 28)
            file.write(raw.replace(DAY, f'"timestamp":"2026-{month + 2:02d}-{day + 1:02d}T'.encode()))
    stretch.unlink()
    return truth, copies, copies * lines


def halves(path: Path) -> list[str]:
    """
    The first events in two files, as two processes would have written them.
    """
    parts = [path.with_suffix(f".{n}.jsonl") for n in range(2)]
    with path.open("rb") as whole, parts[0].open("wb") as even, parts[1].open("wb") as odd:
        for line in islice(whole, IN_HALVES):
            writer = line.index(b'"writer":"worker-') + len(b'"writer":"worker-')
            (odd if line[writer] % 2 else even).write(line)
    return [str(part) for part in parts]


def bare(path: Path) -> int:
    """
    The least one could do: decode each line into the same records.
    """
    decode, count, carry = DECODER.decode, 0, b""
    with path.open("rb") as file:
        while chunk := file.read(128 * 1024):
            lines = chunk.split(b"\n")
            lines[0] = carry + lines[0]
            carry = lines.pop()
            for line in lines:
                decode(line)
            count += len(lines)
    return count


def run(name: str, path: Path) -> None:
    """
    One reading in a process of its own; prints events, processor seconds and peak memory.
    """
    began = time.process_time()
    if name == "bare":
        count = bare(path)
    else:
        consumer = pour([str(path)], {"review": Review, "top": TopCounter, "rate": RateCounter}[name]())
        count = consumer.intake.events
        if isinstance(consumer, Review):
            answers.summary(consumer)
    spent = time.process_time() - began
    # The peak since this program began; getrusage would tell the parent's.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = int(status.partition("VmHWM:")[2].split()[0]) // 1024
    right = consumer.conflicts if name == "review" else 0  # type: ignore[possibly-undefined, union-attr]
    print(count, spent, found, right)


def measure(names: Sequence[str], path: Path) -> dict[str, tuple[int, float, int, float]]:
    """
    The best of some rounds of each, in turn, so that all see the same neighbours.
    """
    found: dict[str, tuple[int, float, int, float]] = {}
    for _ in range(ROUNDS):
        for name in names:
            one = read(name, path)
            if name not in found or one[1] < found[name][1]:
                found[name] = one
    return found


def read(name: str, path: Path) -> tuple[int, float, int, float]:
    """
    One reading in a process of its own: events, processor seconds, peak memory, conflicts.
    """
    command = [sys.executable, "-m", "bench.bench_review", name, str(path)]
    count, spent, memory, right = subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout.split()
    return int(count), float(spent), int(memory), float(right)


def main() -> int:
    if len(sys.argv) > 2:
        run(sys.argv[1], Path(sys.argv[2]))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "occ.jsonl"
        truth, copies, events = prepare(path)
        size = path.stat().st_size
        found = measure(("bare", "top", "rate", "review"), path)
        began = time.perf_counter()
        several = parallel.review([str(path)], workers=2)
        wall = (time.perf_counter() - began) / events * 1e6
        parts = halves(path)
        began = time.perf_counter()
        two = parallel.review(parts, workers=2)
        in_two = (time.perf_counter() - began) / two.intake.events * 1e6
    assert several.conflicts == truth.conflicts * copies
    assert all(count == events for count, *_ in found.values())
    assert found["review"][3] == truth.conflicts * copies
    each = {name: spent / events * 1e6 for name, (_, spent, *_) in found.items()}
    rows = [
        Row("bare decode", round(each["bare"], 3), "µs per event"),
        Row("top", round(each["top"], 3), "µs per event", 1.11),
        Row("rate, check", round(each["rate"], 3), "µs per event", 1.11),
        Row("summary, report", round(each["review"], 3), "µs per event", 2.22),
        Row("summary, report, beside the bare decode", round(each["review"] / each["bare"], 2), "times", 2.5),
        Row("summary, report, by two processes, on the wall", round(wall, 3), "µs per event", 1.25),
        Row("the same, of two files", round(in_two, 3), "µs per event", 1.25),
        Row("memory of summary, report", found["review"][2], "MiB", 150),
        Row("memory of top", found["top"][2], "MiB", 150),
    ]
    return save(
        "review",
        rows,
        {"events": events, "bytes": size, "keys": 5_000, "conflicts": truth.conflicts * copies},
    )


if __name__ == "__main__":
    sys.exit(main())
