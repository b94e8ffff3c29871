"""
Standard input as a file, for commands that read twice.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from toolkit.review.reading import STDIN


@contextmanager
def spooled(files: Sequence[str]) -> Generator[list[str]]:
    """
    The same names, with ``-`` replaced by a temporary file that holds what came in.
    """
    if STDIN not in files:
        yield list(files)
        return
    with tempfile.NamedTemporaryFile(prefix="occ-log-", suffix=".jsonl") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        copy.flush()
        yield [copy.name if name == STDIN else name for name in files]
