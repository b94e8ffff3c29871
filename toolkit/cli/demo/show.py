"""
What the demo prints: one table of what was lost and doubled, and the conflicts in short.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from toolkit.review import answers
from toolkit.review.engine import Review

if TYPE_CHECKING:
    from toolkit.cli.demo.play import Line, Plan, Result, Transfers


def show_sign_ups(console: Console, ways: Mapping[str, str], quiet: Line, bad: Line, plan: Plan) -> None:
    """
    Print both lines side by side, one row for each way, and say what the numbers mean.
    """
    people = plan.processes * plan.people
    table = Table(
        title=f"{people} people sign up under one key, from {plan.processes} processes, through a real daprd",
        title_justify="left",
    )
    for column in ("line", "way"):
        table.add_column(column, no_wrap=True)
    for column in ("stored", "lost", "doubled", "seconds"):
        table.add_column(column, justify="right")
    for line in (quiet, bad):
        for index, result in enumerate(line.results):
            table.add_row("" if index else line.title, ways[result.way], *_cells(result))
        table.add_section()
    console.print(table)
    console.print("lost: told “welcome”, but not in the list, or two people under one name")
    console.print("doubled: in the list twice, under two names\n")
    by_hand, ours = bad.results[1], (quiet.results[2], bad.results[2])
    if quiet.results[1].lost == quiet.results[1].doubled == 0:
        console.print("The hand-written ETag loop is right on the quiet line: ETags keep what they promise.")
    console.print(
        f"On the bad line {bad.lost_answers} answers got lost after the sidecar had done its work. The loop tries again, "
        f"finds the name taken (by itself) and signs the same person up under the next: {by_hand.doubled} times."
    )
    if all(result.lost == result.doubled == 0 for result in ours):
        console.print("The toolkit finds out whether its write arrived: nothing lost, nothing doubled.")
    console.print()


def _cells(result: Result) -> list[Text]:
    seconds = Text(f"{result.seconds:.1f}", style="dim")
    return [Text(str(result.stored)), _count(result.lost), _count(result.doubled), seconds]


def _count(number: int) -> Text:
    return Text(str(number), style="bold red" if number else "green")


def show_transfers(console: Console, ways: Mapping[str, str], results: Sequence[Transfers]) -> None:
    """
    Print what became of the money.
    """
    table = Table(
        title=f"{results[0].transfers} transfers between five accounts: the total must stay what it was",
        title_justify="left",
    )
    table.add_column("way", no_wrap=True)
    for column in ("total off by", "audits that were wrong", "seconds"):
        table.add_column(column, justify="right")
    for result in results:
        torn = _count(result.torn).append(f" of {result.audits}", style="default")
        seconds = Text(f"{result.seconds:.1f}", style="dim")
        table.add_row(ways[result.way], _count(result.off), torn, seconds)
    console.print(table)
    console.print(
        "Two writes with an ETag each are no transaction: when the second one loses, the first one stays.\n"
    )


def show_conflicts(console: Console, found: Review, logs: Sequence[Path], report: Path) -> None:
    """
    Print the toolkit's own conflicts in a few lines, and where the whole story is.
    """
    total = answers.summary(found)
    worst = answers.top(found, limit=3)["keys"]
    written = total["committed"] - total["noop"]
    console.print(
        f"The toolkit's conflicts: {written} writes went through, {total['conflicts']} lost a race and were done again "
        f"({total['lost_s']:.1f} s of work), {total['gave_up']} gave up, {total['outcome_unknown']} stayed unclear."
    )
    for row in worst:
        rival = row["rivals"][0] if row["rivals"] else None
        told = f"; most often {rival['loser']} to {rival['winner']} ({rival['count']} times)" if rival else ""
        console.print(f"  {row['key']}: {row['lost']} lost{told}")
    if logs:
        console.print(f"Read on: occ log summary {logs[0].parent}", soft_wrap=True)
    console.print(f"The report, one file to open in a browser: {report.resolve()}", soft_wrap=True)
