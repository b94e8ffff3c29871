"""
How every bench ends: a table, and a JSON file in ``bench/results/``.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Row:
    """
    One figure.

    Attributes:
        target: The most it should be; None where it is only told.
    """

    name: str
    value: float
    unit: str
    target: float | None = None

    @property
    def met(self) -> bool | None:
        return None if self.target is None else self.value <= self.target


def save(name: str, rows: Sequence[Row], about: dict[str, Any]) -> int:
    """
    Print the rows and write them; 0 where every target is met, else 1.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"bench {name}", title_justify="left")
    for column in ("figure", "value", "", "target", ""):
        table.add_column(column, justify="right" if column in ("value", "target") else "left")
    for row in rows:
        mark = {True: "met", False: "missed", None: ""}[row.met]
        target = "" if row.target is None else f"≤ {row.target:g}"
        style = "bold red" if row.met is False else None
        table.add_row(row.name, f"{row.value:g}", row.unit, target, mark, style=style)
    Console().print(table)
    machine = {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()}
    taken = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    found = {"bench": name, "at": taken, **about, "machine": machine, "rows": [asdict(row) for row in rows]}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0 if all(row.met is not False for row in rows) else 1
