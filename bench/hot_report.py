"""
The end of ``bench_hot``: a table, a JSON file with what it was measured on, and plots.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.plots import plot
from bench.report import RESULTS

LIBRARIES = ("dapr", "grpcio", "anyio", "msgspec", "redis", "psycopg", "tenacity")
STAT = Path("/proc/stat")


@dataclass(frozen=True, slots=True)
class Figure:
    """
    One figure.

    Attributes:
        alone: The same with one task, beside every figure of several.
        busy: The part of the machine's processor time in use meanwhile, by all programs.
        least: What it should be at least; None where there is no such goal.
        most: What it should be at most.
    """

    name: str
    value: float
    unit: str
    alone: float | None = None
    busy: float | None = None
    least: float | None = None
    most: float | None = None

    @property
    def goal(self) -> str:
        if self.least is not None:
            return f"≥ {self.least:g}"
        return "" if self.most is None else f"≤ {self.most:g}"

    @property
    def met(self) -> bool | None:
        if self.least is not None:
            return self.value >= self.least
        return None if self.most is None else self.value <= self.most


def processor() -> tuple[float, float] | None:
    """
    Busy and whole processor time of the machine so far; None where Linux does not tell.
    """
    try:
        times = [float(text) for text in STAT.read_text(encoding="ascii").splitlines()[0].split()[1:9]]
    except OSError:
        return None
    return sum(times) - times[3] - times[4], sum(times)


@dataclass(slots=True)
class Bench:
    """
    How long everything is measured, and what was found so far.
    """

    rounds: int
    seconds: float
    console: Console = field(default_factory=lambda: Console(stderr=True))
    figures: list[Figure] = field(default_factory=list[Figure])
    busy: float | None = None

    @contextmanager
    def part(self, title: str) -> Iterator[None]:
        """
        One part of the run: says what is measured now, and how busy the machine was meanwhile.
        """
        before, self.busy, first = processor(), None, len(self.figures)
        with self.console.status(f"{title} …"):
            began = time.monotonic()
            yield
        after = processor()
        if before is not None and after is not None and after[1] > before[1]:
            busy = round((after[0] - before[0]) / (after[1] - before[1]), 3)
            self.figures[first:] = [_with_busy(one, busy) for one in self.figures[first:]]
        self.console.print(f"  {title}: {time.monotonic() - began:.0f} s", style="dim")

    def add(self, name: str, value: float, unit: str, alone: float | None = None, **goal: float) -> None:
        alone = None if alone is None else round(alone, 4)
        self.figures.append(
            Figure(name, round(value, 4), unit, alone, None, goal.get("least"), goal.get("most"))
        )

    def rates(
        self, title: str, found: Mapping[str, Sequence[Any]], alone: Mapping[str, Sequence[Any]] | None = None
    ) -> dict[str, float]:
        """
        The median rate of each side, also told.
        """
        medians = {side: rate(windows) for side, windows in found.items()}
        for side, value in medians.items():
            one = rate(alone[side]) if alone and side in alone else None
            self.add(f"{title}: {side}", value, "per s", one)
        return medians


def rate(windows: Sequence[Any]) -> float:
    """
    The median of some windows, or of some rates.
    """
    return statistics.median(getattr(one, "rate", one) for one in windows)


def _with_busy(one: Figure, busy: float) -> Figure:
    return Figure(one.name, one.value, one.unit, one.alone, busy, one.least, one.most)


def table_of(name: str, figures: Sequence[Figure]) -> Table:
    table = Table(title=f"bench {name}", title_justify="left")
    for column in ("figure", "value", "", "one task", "busy", "goal", ""):
        right = column in ("value", "one task", "busy", "goal")
        table.add_column(column, justify="right" if right else "left")
    for one in figures:
        mark = {True: "met", False: "missed", None: ""}[one.met]
        alone = "" if one.alone is None else f"{one.alone:,.4g}"
        busy = "" if one.busy is None else f"{one.busy:.0%}"
        style = "bold red" if one.met is False else None
        table.add_row(one.name, f"{one.value:,.4g}", one.unit, alone, busy, one.goal, mark, style=style)
    return table


def save(name: str, figures: Sequence[Figure], about: dict[str, Any]) -> int:
    """
    Print, write and draw the figures; 0 where every goal is met, else 1.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=150)  # into a file: as wide as the names need
    console.print(table_of(name, figures))
    machine = {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()}
    versions = {library: importlib.metadata.version(library) for library in LIBRARIES}
    taken = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    rows = [asdict(one) | {"met": one.met} for one in figures]
    versions |= about.pop("versions", {})
    found = {"bench": name, "at": taken, **about, "machine": machine, "versions": versions, "rows": rows}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    plot(found, RESULTS / f"{name}.png")
    print(f"written: {RESULTS / name}.json, .png, .html")
    return 0 if all(one.met is not False for one in figures) else 1
