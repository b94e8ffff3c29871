"""
One process of a parallel review: ``python -m toolkit.review.worker TARGET`` with the job on standard input.
"""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toolkit.review.engine import Review
from toolkit.review.join import NOT_LOGGED
from toolkit.review.reading import Decoding, Intake, Source
from toolkit.review.records import DECODER, Committed, Conflict, GaveUp, OutcomeUnknown, Record
from toolkit.review.run import feed_all

_TELL = 4_000_000


class Fringe:
    """
    Feeds only what a review must know of the time around its own stretch: who committed and, *before* it, what calls were
    under way.
    """

    def __init__(self, review: Review, *, before: bool) -> None:
        self.intake = Intake()
        self._review, self._before = review, before
        self._decoding = Decoding(self.intake, DECODER)

    def feed(self, block: bytes, decode: Callable[[bytes], Record | None] | None = None) -> None:
        """
        Take in a block of lines.
        """
        for record in self._decoding.records(block):
            if isinstance(record, Committed):
                self._review.overhear(record)
            if self._before and isinstance(record, Conflict):
                record.beaten_by = self._review.join.known(record) or NOT_LOGGED
            if self._before and isinstance(record, (Conflict, Committed, GaveUp, OutcomeUnknown)):
                self._review.under_way(record)

    def advance(self, seconds: float | None) -> None:
        """
        Pass on how far all have been read.
        """
        self._review.join.advance(seconds)

    def finish(self) -> None:
        """
        Nothing waits here.
        """


def work(job: dict[str, Any], told: Callable[[int], None]) -> Review:
    """
    Read the parts of a job: before, the stretch itself, after.
    """
    review = Review(by=job["by"], origin=job["origin"])
    last = 0

    def progress(done: int) -> None:
        nonlocal last
        if done - last >= _TELL:
            last = done
            told(done)

    for begin, end, consumer in (
        ("before", "begin", Fringe(review, before=True)),
        ("begin", "end", review),
        ("end", "after", Fringe(review, before=False)),
    ):
        sources = [
            Source(part["name"], consumer.intake, start=part[begin], stop=part[end])
            for part in job["parts"]
            if part[end] > part[begin]
        ]
        feed_all(sources, consumer, None, progress if consumer is review else None)
    review.finish()
    return review


def main() -> None:
    """
    Do the job and leave the review in the target file.
    """
    job: dict[str, Any] = json.loads(sys.stdin.read())
    found = work(job, lambda done: print(done, flush=True))  # noqa: T201 - how the parent hears of progress
    Path(sys.argv[1]).write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    main()
