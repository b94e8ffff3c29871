"""
The end of ``bench_hot``: a table, a JSON file with what it was measured on, and a plot.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.plots import plot
from bench.report import RESULTS

LIBRARIES = ("dapr", "grpcio", "anyio", "redis", "psycopg", "tenacity")


@dataclass(frozen=True, slots=True)
class Figure:
    """
    One figure.

    Attributes:
        least: What it should be at least; None where there is no such goal.
        most: What it should be at most.
    """

    name: str
    value: float
    unit: str
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


def save(name: str, figures: Sequence[Figure], about: dict[str, Any]) -> int:
    """
    Print, write and draw the figures; 0 where every goal is met, else 1.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"bench {name}", title_justify="left")
    for column in ("figure", "value", "", "goal", ""):
        table.add_column(column, justify="right" if column in ("value", "goal") else "left")
    for one in figures:
        mark = {True: "met", False: "missed", None: ""}[one.met]
        style = "bold red" if one.met is False else None
        table.add_row(one.name, f"{one.value:,.5g}", one.unit, one.goal, mark, style=style)
    Console().print(table)
    machine = {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()}
    versions = {library: importlib.metadata.version(library) for library in LIBRARIES}
    taken = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    rows = [asdict(one) | {"met": one.met} for one in figures]
    found = {"bench": name, "at": taken, **about, "machine": machine, "versions": versions, "rows": rows}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    plot(found, RESULTS / f"{name}.png")
    return 0 if all(one.met is not False for one in figures) else 1
