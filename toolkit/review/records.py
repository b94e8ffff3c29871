"""
The lines of the log as typed records; fields a reader does not use are not decoded.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, TypeAlias

import msgspec

from toolkit.review.schema import LEAST_SAMPLE, MOST, MOST_SECONDS, VERSION

# A line of a later schema version fails here, in C, and is looked at again where time does not matter.
Version: TypeAlias = Annotated[int, msgspec.Meta(le=VERSION)]
Strings: TypeAlias = tuple[str, ...]
# What no line can mean is no record: one absurd number would drown all others.
Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=MOST_SECONDS)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MOST)]
Share: TypeAlias = Annotated[float, msgspec.Meta(ge=LEAST_SAMPLE, le=1)]


class Lost(msgspec.Struct, tag_field="event", tag="occ.conflict", gc=False):
    """
    A write that was refused, with only what counting needs: each field that is looked for costs time with every line.

    The fields stand in the order in which the toolkit writes them, where they are found at once.
    """

    event: ClassVar[str] = "occ.conflict"

    timestamp: str
    v: Version = 1
    writer: str = ""
    store: str = ""
    call_id: str = ""
    key: str = ""
    attempt: Count = 0
    read_s: Seconds = 0.0
    fn_s: Seconds = 0.0
    write_s: Seconds = 0.0
    lost_s: Seconds = 0.0
    wait_s: Seconds = 0.0
    cause: str = "unknown"
    winner: str = ""
    winner_kind: str = ""
    race: str = ""
    keys: Strings = ()
    races: Strings = ()
    sample: Share = 1.0
    maybe_self: bool = False
    # Not in the log: who won, once the join knows it, and the second best guess until then.
    beaten_by: str = msgspec.field(default="", name=" beaten_by")
    perhaps_by: str = msgspec.field(default="", name=" perhaps_by")


class Conflict(Lost, tag="occ.conflict"):
    """
    The same with all that can be asked for.
    """

    app: str = ""
    inst: str = ""
    op: str = ""
    key_tpl: str = ""


class Won(msgspec.Struct, tag_field="event", tag="occ.committed", gc=False):
    """
    A write that went through, with only what counting needs; it may carry several updates.
    """

    event: ClassVar[str] = "occ.committed"

    timestamp: str
    v: Version = 1
    writer: str = ""
    store: str = ""
    call_id: str = ""
    key: str = ""
    write_id: str = ""
    path: str = ""
    combined: Count = 1
    attempt: Count = 0
    lost_s: Seconds = 0.0
    total_s: Seconds = 0.0
    race: str = ""
    keys: Strings = ()
    races: Strings = ()
    sample: Share = 1.0
    noop: bool = False


class Committed(Won, tag="occ.committed"):
    """
    The same with all that can be asked for.
    """

    app: str = ""
    inst: str = ""
    op: str = ""
    key_tpl: str = ""


class Line(msgspec.Struct, tag_field="event", gc=False):
    """
    What the rarer lines have in common.
    """

    event: ClassVar[str] = ""

    timestamp: str
    v: Version = 1
    app: str = ""
    inst: str = ""
    writer: str = ""
    store: str = ""
    op: str = ""
    key_tpl: str = ""
    call_id: str = ""
    op_id: str = ""
    key: str = ""
    keys: Strings = ()
    race: str = ""
    races: Strings = ()
    sample: Share = 1.0
    attempt: Count = 0
    lost_s: Seconds = 0.0
    wait_s: Seconds = 0.0


class GaveUp(Line, tag="occ.gave_up"):
    """
    An operation that failed.
    """

    event: ClassVar[str] = "occ.gave_up"

    reason: str = "error"
    error_type: str = ""
    total_s: Seconds = 0.0


class OutcomeUnknown(Line, tag="occ.outcome_unknown"):
    """
    A write whose answer never came.
    """

    event: ClassVar[str] = "occ.outcome_unknown"

    total_s: Seconds = 0.0


class AccessDenied(Line, tag="occ.access_denied"):
    """
    A call a handle has no right to.
    """

    event: ClassVar[str] = "occ.access_denied"


class Warned(Line, tag="occ.warning"):
    """
    Something said once.
    """

    event: ClassVar[str] = "occ.warning"


class Summary(Line, tag="occ.summary"):
    """
    Exact totals of one process over a few seconds.
    """

    event: ClassVar[str] = "occ.summary"

    ops: Count = 0
    updates: Count = 0
    attempts: Count = 0
    conflicts: Count = 0
    gave_up: Count = 0
    noop: Count = 0
    unknown: Count = 0
    max_attempt: Count = 0
    window_s: Seconds = 0.0
    total_s: Seconds = 0.0
    dropped: Count = 0


Record: TypeAlias = Conflict | Committed | GaveUp | OutcomeUnknown | AccessDenied | Warned | Summary

# With conflicts and commits in their short form.
LeanRecord: TypeAlias = Lost | Won | GaveUp | OutcomeUnknown | AccessDenied | Warned | Summary

DECODER = msgspec.json.Decoder(Record)
LEAN = msgspec.json.Decoder(LeanRecord)
EVENT_NAMES = tuple(
    kind.event for kind in (Conflict, Committed, GaveUp, OutcomeUnknown, AccessDenied, Warned, Summary)
)
