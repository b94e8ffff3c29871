"""
Renders a review as one self-contained HTML file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.resources import files as resources
from pathlib import Path
from string import Template

from toolkit.review import answers
from toolkit.review.engine import Review
from toolkit.review.parallel import review as read
from toolkit.review.query import Query
from toolkit.review.report import html
from toolkit.review.report.data import as_script, charts


def asset(name: str) -> str:
    """
    A file that is built into the page.
    """
    return (resources("toolkit.review.report") / name).read_text(encoding="utf-8")


def render(found: Review, *, title: str, names: Sequence[str], query: str = "", max_rows: int = 60) -> str:
    """
    The page of a finished review.
    """
    summary = answers.summary(found)
    span = summary["span"]
    when = (
        f"{span['first'][:19].replace('T', ' ')} UTC, {span['seconds']:,.1f} s"
        if span["first"]
        else "no events"
    )
    return Template(asset("assets/page.html")).substitute(
        title=html.t(title),
        when=html.t(when),
        style=asset("vendor/uPlot.min.css") + asset("assets/report.css"),
        tiles=html.tiles(summary),
        cards=html.cards(found),
        attempts=html.attempts(found),
        quantiles=html.quantiles(found),
        matrix=html.versus(found),
        keys=html.hot_keys(found, max_rows),
        failures=html.failures(found),
        read=html.how_read(found, names, query),
        data=as_script(charts(found, max_rows=max_rows)),
        plot=asset("vendor/uPlot.iife.min.js"),
        script=asset("assets/report.js"),
    )


def write(
    files: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    title: str = "Conflict review",
    query: Query | None = None,
    max_rows: int = 60,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """
    Read the conflict logs *files* and write the report to *output*; answers the path written.

    Raises:
        InputError: A file does not exist.
        OSError: The report cannot be written.
    """
    names = [os.fspath(name) for name in ([files] if isinstance(files, (str, os.PathLike)) else files)]
    found = read(names, query=query, progress=progress)
    path = Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    asked = "" if query is None else query.told()
    path.write_text(
        render(found, title=title, names=found.intake.files, query=asked, max_rows=max_rows), encoding="utf-8"
    )
    return path
