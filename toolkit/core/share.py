"""
The part of one transaction in a batch of merged ones, and what its caller is told in the end.
"""

from __future__ import annotations

from typing import Any

from toolkit.core.body import Finished
from toolkit.core.records import Record
from toolkit.core.transaction import TxRun, recorded_form
from toolkit.errors import RecordedError


class Alone:
    """
    The member is to start over by itself, outside of any batch.
    """


class Retry:
    """
    The member is to run again; the batch it was in was lost.
    """


class Share:
    """
    One member's part in a batch: what its body left, and in the end what its caller is told.

    Attributes:
        verdict: ``None`` while it is open; an exception is raised to the caller.
    """

    def __init__(self, run: TxRun) -> None:
        self.run = run
        self.ended = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.outcome: Record | None = None
        self.needed: frozenset[str] = frozenset()
        self.verdict: Finished | Exception | Alone | Retry | None = None

    @property
    def writes(self) -> bool:
        """
        Whether the commit is to do anything for this member.
        """
        return self.ended and (self.run.writes or self.outcome is not None)

    def truth(self) -> Finished:
        """
        What the caller is told once the commit took effect.
        """
        if self.error is None:
            return Finished(self.result, after=tuple(self.run.buffer.after))
        if self.outcome is not None:
            return Finished(error=RecordedError(*recorded_form(self.error)))
        return Finished(error=self.error)
