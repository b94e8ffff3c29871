"""
The table of rows and stores says what it lacks.
"""

from __future__ import annotations

from tests.faults.table import ENOUGH, PROPERTY, ROWS, cells_of, table_of

FULL = {(row, store): ENOUGH for row, stores in ROWS.items() for store in stores}


def test_a_full_table_is_not_void() -> None:
    """One line for each row, with its counts; cells where a row does not apply are dots."""
    head, *lines = table_of(FULL)
    assert head.split() == ["faults", "fired", "SQLite", "Redis", "PostgreSQL", "MariaDB", "component"]
    assert len(lines) == len(ROWS)
    assert lines[0].split()[-5:] == ["20", "20", "20", "20", "."]


def test_empty_and_thin_cells_make_it_void() -> None:
    """Both are named."""
    cells = dict(FULL)
    del cells["2 request lost", "Redis"]
    cells["17 raced write acknowledged", "component"] = ENOUGH - 1
    assert table_of(cells)[-1] == (
        "this table is void: fewer than 20 firings of 2 request lost: Redis; 17 raced write acknowledged: component"
    )


def test_cells_add_up_over_reports() -> None:
    """Other properties of a report are none of its business."""
    properties = [
        (PROPERTY, ("2 request lost", "Redis", 20)),
        ("tell", "x"),
        (PROPERTY, ["2 request lost", "Redis", 5]),
    ]
    assert cells_of(properties) == {("2 request lost", "Redis"): 25}
