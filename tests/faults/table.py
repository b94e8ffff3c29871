"""
The table of fault rows and stores, put together at the end of a run from what each test counted.

Tests may run on several workers, whose own output is lost: so a test hands its cells over with its report. A row that
never met its fault proves nothing: a cell that is empty or below ``ENOUGH`` makes the table void, and it says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

ENOUGH: Final = 20

SQLITE, REDIS, POSTGRESQL, MARIADB, COMPONENT = "SQLite", "Redis", "PostgreSQL", "MariaDB", "component"
STORES: Final = (SQLITE, REDIS, POSTGRESQL, MARIADB, COMPONENT)
FOUR: Final = (SQLITE, REDIS, POSTGRESQL, MARIADB)
SERVERS: Final = (REDIS, POSTGRESQL, MARIADB)

# By the names of the components and of the servers that the fixtures start.
STORE_OF: Final = {
    "sqlite": SQLITE,
    "redis": REDIS,
    "postgresql-v2": POSTGRESQL,
    "postgresql": POSTGRESQL,
    "mysql": MARIADB,
    "mariadb": MARIADB,
}

# Each row of the table and where it has to be seen.
ROWS: Final[dict[str, tuple[str, ...]]] = {
    "1 reply of a compare-and-set lost": FOUR,
    "2 request lost": FOUR,
    "3 reply of a delete lost": FOUR,
    "4 reply of a create lost": FOUR,
    "6 duplicate at once": FOUR,
    "6 duplicate late": FOUR,
    "7 sidecar retries what was applied": (COMPONENT,),
    "8 connection cut after the write": SERVERS,
    "9 retries of the SDK switched on": FOUR,
    "10 connection reset, worded as a conflict": SERVERS,
    "12 stale write on a deleted key": FOUR,
    "13 deleted and created again": FOUR,
    "14 ETag unchanged by a foreign write": (COMPONENT,),
    "15 create over a plain key": FOUR,
    "16 two creates at once": FOUR,
    "17 raced write acknowledged": (COMPONENT,),
}

Cell: TypeAlias = tuple[str, str]

PROPERTY: Final = "fault cell"


def cells_of(properties: Iterable[tuple[str, Any]]) -> Counter[Cell]:
    """
    The cells among the properties of a report.
    """
    cells: Counter[Cell] = Counter()
    for name, value in properties:
        if name == PROPERTY:
            row, store, count = value
            cells[row, store] += count
    return cells


def table_of(cells: Mapping[Cell, int]) -> list[str]:
    """
    The lines of the table, and what makes it void.
    """
    width = max(map(len, ROWS))
    lines = [f"{'faults fired':{width}}" + "".join(f"{store:>12}" for store in STORES)]
    void: list[str] = []
    for row, stores in ROWS.items():
        shown = [str(cells.get((row, store), 0)) if store in stores else "." for store in STORES]
        lines.append(f"{row:{width}}" + "".join(f"{count:>12}" for count in shown))
        void += [f"{row}: {store}" for store in stores if cells.get((row, store), 0) < ENOUGH]
    if void:
        lines.append(f"this table is void: fewer than {ENOUGH} firings of {'; '.join(void)}")
    return lines
