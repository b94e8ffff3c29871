"""
Prints answers: tables for people, JSON, JSON lines, CSV and Markdown for everything else.
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import typer

from toolkit.review.text import clean, count, seconds, share

if TYPE_CHECKING:
    from rich.console import Console

Row: TypeAlias = dict[str, Any]
__all__ = [
    "FORMATS",
    "Column",
    "Printer",
    "Row",
    "clean",
    "clock",
    "count",
    "footer_lines",
    "seconds",
    "share",
    "spark",
    "text",
]

FORMATS: Final = ("table", "json", "jsonl", "csv", "md")
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"


def spark(values: Any) -> str:
    """
    Counts as a line of blocks.
    """
    most = max(values, default=0)
    if not most:
        return ""
    return "".join(_BLOCKS[min(8, -(-8 * int(value) // max(1, int(most))))] for value in values)


def clock(value: Any) -> str:
    """
    The time of day of a timestamp.
    """
    return clean(value)[11:23]


@dataclass(frozen=True, slots=True)
class Column:
    """
    One column: its title, the field, how it is written.
    """

    title: str
    name: str
    write: Callable[[Any], str] = clean
    right: bool = True


def text(title: str, name: str) -> Column:
    """
    A column of text.
    """
    return Column(title, name, clean, right=False)


class Printer:
    """
    Prints one answer in the form asked for.
    """

    def __init__(self, form: str, *, no_color: bool = False) -> None:
        self.form, self._no_color = form, no_color

    @property
    def console(self) -> Console:
        """
        Where tables go.
        """
        from rich.console import Console

        # In a pipe or a file nothing wraps at 80 columns unless COLUMNS asks for it.
        width = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else 150
        # A key such as "user:cat:7" is no picture.
        return Console(no_color=self._no_color, highlight=False, emoji=False, width=width)

    @property
    def people(self) -> bool:
        """
        Whether a person reads.
        """
        return self.form == "table"

    def say(self, line: str, style: str = "") -> None:
        """
        One line for people, nothing for machines.
        """
        if self.people:
            self.console.print(line, style=style or None, markup=False, soft_wrap=True)

    def answer(
        self, found: Row, root: str, columns: Sequence[Column], *, title: str = "", empty: str = ""
    ) -> None:
        """
        Print the rows under *root* of an answer, or all of it as JSON.
        """
        if self.form == "json":
            typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
            return
        rows: list[Row] = found[root]
        if self.form == "jsonl":
            for row in rows:
                typer.echo(json.dumps(row, ensure_ascii=False))
        elif self.form == "csv":
            typer.echo(_csv(rows, columns), nl=False)
        elif self.form == "md":
            typer.echo(_markdown(rows, columns))
        elif rows:
            self.table(rows, columns, title=title)
        else:
            self.say(empty or "nothing to show")

    def table(self, rows: Sequence[Row], columns: Sequence[Column], *, title: str = "") -> None:
        """
        Print rows as a table for people.
        """
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(
            title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, title_style="bold"
        )
        for column in columns:
            table.add_column(
                column.title,
                justify="right" if column.right else "left",
                overflow="fold",
                no_wrap=column.right,
            )
        for row in rows:
            table.add_row(*(Text(column.write(row.get(column.name))) for column in columns))
        self.console.print(table)

    def footer(self, read: Row) -> None:
        """
        Say what the answer rests on.
        """
        if self.people:
            for line, warn in footer_lines(read):
                self.console.print(line, style="yellow" if warn else "dim", markup=False, soft_wrap=True)


def _csv(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([column.name for column in columns])
    for row in rows:
        writer.writerow([_cell(row.get(column.name)) for column in columns])
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and value[:1] in "=+-@\t\r":
        # A spreadsheet would take it for a formula.
        return "'" + clean(value)
    return clean(value) if isinstance(value, str) else value


def _markdown(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    lines = [
        "| " + " | ".join(column.title for column in columns) + " |",
        "|" + "|".join("---:" if column.right else "---" for column in columns) + "|",
    ]
    for row in rows:
        cells = [
            column.write(row.get(column.name)).replace("|", "\\|").replace("<", "&lt;") for column in columns
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def footer_lines(read: Row) -> list[tuple[str, bool]]:
    """
    The footer: what was read, then each thing a reader must know, marked as a warning.
    """
    files = f"{read['files']} file" + ("s" if read["files"] != 1 else "")
    first = f"{files}, {read['lines']:,} lines, {read['events']:,} events"
    if read["kept"] != read["events"]:
        first += f", {read['kept']:,} asked for"
    lines = [(first, False)]
    notes = (
        ("torn", "torn or broken"), ("foreign", "of other programs"), ("future", "of a later schema version, not read"),
        ("oversized", "over 1 MB, not read"),
    )  # fmt: skip
    skipped = [f"{read[name]:,} {what}" for name, what in notes if read[name]]
    if skipped:
        lines.append(("lines left out: " + ", ".join(skipped), True))
    if read["sample"] < 1:
        lines.append(
            (f"sampled: down to {100 * read['sample']:.3g} % of races kept; counts are estimates", True)
        )
    if read["dropped"]:
        lines.append((f"{read['dropped']:,} lines could not be written by their process", True))
    lines.extend(
        (
            "clocks disagree: {} is at least {} ahead of {}".format(
                clean(one["ahead"]), seconds(one["by_s"]), clean(one["behind"])
            ),
            True,
        )
        for one in read.get("clocks", [])[:3]
    )
    lines.extend((clean(problem), True) for problem in read["problems"])
    return lines
