"""
``occ demo``: a real sidecar loses sign-ups without ETags, a hand-written loop doubles them, the toolkit does neither.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from toolkit.cli._options import FAILED

EPILOG: Final = (
    "Example: occ demo --people 20. Exit code 0: the toolkit lost and doubled nothing; 1: it did, or something the demo "
    "needs failed."
)


def demo(
    *,
    output: Annotated[
        Path, typer.Option("--output", metavar="DIR", help="Where the report and the conflict log go.")
    ] = Path(".occ/demo"),
    processes: Annotated[
        int, typer.Option("--processes", min=2, max=64, help="How many processes sign people up at once.")
    ] = 8,
    people: Annotated[
        int, typer.Option("--people", min=1, max=1000, help="How many sign-ups each of them makes.")
    ] = 12,
    drop: Annotated[
        float,
        typer.Option("--drop", min=0.0, max=0.5, help="The share of answers lost on the bad line."),
    ] = 0.15,
    seed: Annotated[int, typer.Option("--seed", help="Which answers are lost.")] = 7,
) -> None:
    """
    Watch a real Dapr sidecar lose sign-ups without ETags and lose none with the toolkit.

    It starts daprd on embedded SQLite, lets eight processes sign people up under one key in three ways, first on a
    quiet line, then on one that loses answers, compares what people were told with what is stored, and writes a report
    of every conflict.
    """
    from rich.console import Console

    from toolkit.cli.demo.play import DemoError, Plan, play
    from toolkit.sidecar.errors import SidecarError

    console = Console(highlight=False, emoji=False)
    errors = Console(stderr=True, highlight=False, emoji=False)
    try:
        right = play(Plan(output, processes, people, drop, seed), console)
    except (SidecarError, DemoError) as error:
        errors.print(f"occ demo: {error}", style="red", markup=False)
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        errors.print("occ demo: stopped; nothing is left behind")
        raise typer.Exit(130) from None
    if not right:
        raise typer.Exit(FAILED)
