"""
Renders a review as one self-contained HTML file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from toolkit.review import answers
from toolkit.review.query import Query
from toolkit.review.run import review


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
    names = [files] if isinstance(files, (str, os.PathLike)) else list(files)
    found = review([os.fspath(name) for name in names], query=query, progress=progress)
    path = Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = "".join(
        f"<tr><td>{escape(row['key'])}<td>{row['lost']}<td>{row['lost_s']}"
        for row in answers.top(found)["keys"]
    )
    path.write_text(
        f"<!doctype html><meta charset=utf-8><title>{escape(title)}</title><h1>{escape(title)}</h1>"
        f"<table><tr><th>key<th>lost<th>lost s{rows}</table>",
        encoding="utf-8",
    )
    return path
