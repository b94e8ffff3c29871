"""
What the quick counters share: decoders of the few fields they need, and how a block is taken in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

import msgspec

from toolkit.review.reading import Decoding, Intake
from toolkit.review.records import EVENT_NAMES, Record, Seconds, Share, Version

GROUPS: Final = {
    "key": "key",
    "tpl": "key_tpl",
    "op": "op",
    "writer": "writer",
    "store": "store",
    "inst": "inst",
}


def slim_decoder(group: str) -> msgspec.json.Decoder[Any]:
    """
    A decoder of the few fields that hot keys need; ``group`` is the field lines are counted by.
    """
    fields: list[Any] = [
        ("timestamp", str), (group, str, ""), ("lost_s", Seconds, 0.0), ("sample", Share, 1.0), ("v", Version, 1),
        ("keys", tuple[str, ...], ()),
    ]  # fmt: skip
    writer: list[Any] = [("writer", str, "")] if group != "writer" else []
    kinds: Any = msgspec.defstruct(
        EVENT_NAMES[0],
        [*fields, *writer],
        namespace={"event": EVENT_NAMES[0]},
        tag_field="event",
        tag=EVENT_NAMES[0],
        gc=False,
    )
    for name in EVENT_NAMES[1:]:
        kinds |= msgspec.defstruct(
            name, fields, namespace={"event": name}, tag_field="event", tag=name, gc=False
        )
    return msgspec.json.Decoder(kinds)


def feed(
    intake: Intake,
    decoding: Decoding,
    block: bytes,
    decode: Callable[[bytes], Record | None] | None,
    count: Callable[[list[Any]], int],
) -> None:
    """
    Decode a block and have it counted; *count* answers how many records were of other programs.
    """
    if decode is None:
        records = decoding.records(block)
        foreign = count(records)
        intake.foreign += foreign
        intake.kept += len(records) - foreign
        intake.events += len(records) - foreign
    else:
        records = decoding.one_by_one(block, decode)
        kept = [record for record in records if record is not None]
        count(kept)
        intake.kept += len(kept)
        intake.events += len(records)
    intake.lines += len(records)


class Hot:
    """
    What is counted of one key, template, operation or writer.
    """

    __slots__ = ("gave_up", "losses", "lost_s", "name", "spark", "wins", "writers")

    def __init__(self, name: str) -> None:
        self.name = name
        self.losses: float = 0
        self.wins: float = 0
        self.gave_up = 0
        self.lost_s = 0.0
        self.writers: set[str] = set()
        self.spark: defaultdict[int, float] = defaultdict(int)
