"""
What the toolkit reports: one event type, one hook.

The names and fields are schema version 1 of the conflict log (``docs/reference/log.md``). The core fills in what it
knows; the log adds who and when.
"""

from __future__ import annotations

from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec

EventName: TypeAlias = Literal[
    "occ.conflict", "occ.committed", "occ.gave_up", "occ.outcome_unknown", "occ.access_denied", "occ.warning"
]

WINNER_KINDS: Final = ("committed", "intent", "aborted", "rollback", "finalise", "fence", "foreign")
CAUSES: Final = ("etag_mismatch", "transaction_abort", "exists", "lock_busy", "unknown")
REASONS: Final = ("attempts", "deadline", "cancelled", "error")


class Event(msgspec.Struct, frozen=True):
    """
    One thing worth telling; ``fields`` are flat, snake_case and never hold a value or a token.
    """

    name: EventName
    fields: dict[str, Any]


class EventHook(Protocol):
    """
    Receives every event, synchronously, in both colours; it must not raise and must not block.
    """

    def __call__(self, event: Event, /) -> None: ...
