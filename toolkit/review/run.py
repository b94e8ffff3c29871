"""
From file names to a finished review.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol, TypeVar

from toolkit.review.axis import seconds_of
from toolkit.review.engine import Review
from toolkit.review.query import Query
from toolkit.review.reading import Intake, Source, expand, merged, open_sources
from toolkit.review.records import Record


class Consumer(Protocol):
    """
    Anything that can be fed a log.
    """

    intake: Intake

    def feed(self, block: bytes, decode: Callable[[bytes], Record | None] | None = None, /) -> None: ...
    def advance(self, seconds: float | None, /) -> None: ...
    def finish(self) -> None: ...


C = TypeVar("C", bound=Consumer)


def pour(
    files: Sequence[str],
    consumer: C,
    query: Query | None = None,
    progress: Callable[[int], None] | None = None,
) -> C:
    """
    Read *files* in the order of their times into *consumer* and finish it.

    Args:
        files: Paths, directories, globs, or ``-``.
        consumer: What is fed.
        query: Which lines count; all by default.
        progress: Called with the bytes read so far.

    Raises:
        InputError: A name leads nowhere.
    """
    # Whoever is left out of the answer may still be the winner of one who is not.
    overhear = consumer.overhear if isinstance(consumer, Review) else None
    decode = None if query is None or query == Query() else query.decoder(overhear)
    sources = open_sources(expand(files), consumer.intake)
    feed_all(sources, consumer, decode, progress)
    consumer.finish()
    return consumer


def feed_all(
    sources: Sequence[Source],
    consumer: Consumer,
    decode: Callable[[bytes], Record | None] | None,
    progress: Callable[[int], None] | None,
) -> None:
    """
    Read the sources in the order of their times into *consumer*, and close them.
    """
    with _no_collection(), ExitStack() as opened:
        for source in sources:
            opened.callback(source.close)
        for when, block in merged(sources) if sources else ():
            consumer.advance(seconds_of(when) if when else None)
            consumer.feed(block, decode)
            if progress is not None:
                progress(consumer.intake.bytes)


@contextmanager
def _no_collection() -> Generator[None]:
    """
    Reading makes no cycles, only many objects; looking for cycles among them would cost a quarter of the time.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def review(
    files: Sequence[str],
    *,
    query: Query | None = None,
    by: str = "writer",
    progress: Callable[[int], None] | None = None,
) -> Review:
    """
    Read *files* into a ``Review``.
    """
    return pour(files, Review(by=by), query, progress)
