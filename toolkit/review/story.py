"""
One operation told from beginning to end: every attempt, and the write that beat it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from toolkit.review.answers import footer
from toolkit.review.axis import seconds_of
from toolkit.review.query import EVERYTHING, Query
from toolkit.review.reading import UNREADABLE, Decoding, Intake, Source, expand, merged, open_sources
from toolkit.review.records import LEAN, Committed, Record
from toolkit.review.schema import fits

Fields = dict[str, Any]

# The fields by which an operation can be asked for.
ID_FIELDS: Final = ("call_id", "op_id", "trace_id", "workflow_id", "actor_id", "request_id", "write_id")
_ENDS: Final = {
    "occ.committed": "committed", "occ.gave_up": "gave up", "occ.outcome_unknown": "outcome unknown",
    "occ.access_denied": "access denied",
}  # fmt: skip
# Characters that no writer of JSON spells another way.
_AS_IT_IS: Final = re.compile(r"[A-Za-z0-9 _.:,;|@#$%()!?~^-]+")


def scan(
    files: Sequence[str], wanted: Callable[[bytes], bool], query: Query, intake: Intake | None = None
) -> Iterator[tuple[Record, bytes]]:
    """
    Yield the records for which *wanted* and the query hold, each with its line.

    The test on the raw line is a cheap sieve; what passes is checked again by the caller. With *intake* every line is
    counted, without it only what is asked for is looked at.
    """
    sources = open_sources(expand(files), intake or Intake())
    try:
        yield from _scan(sources, wanted, query, intake)
    finally:
        for source in sources:
            source.close()


def _scan(
    sources: Sequence[Source], wanted: Callable[[bytes], bool], query: Query, intake: Intake | None
) -> Iterator[tuple[Record, bytes]]:
    decode = query.decoder()
    counting = Decoding(intake, LEAN) if intake is not None else None
    for _, block in merged(sources):
        if intake is not None and counting is not None:
            events = len(counting.records(block))
            intake.lines += events
            intake.events += events
        for line in block.split(b"\n"):
            if not wanted(line):
                continue
            try:
                record = decode(line)
            except UNREADABLE:
                # Counted above, if it is counted.
                continue
            if record is not None:
                yield record, line


def told(line: bytes, query: Query) -> Fields:
    """
    The fields of a line whose values are of the kind the schema says; those no schema knows are an application's own.
    """
    return {name: value for name, value in query.fields(line).items() if fits(name, value)}


def needle(text: str) -> bytes:
    """
    The longest part of a text that stands in a JSON line as it is, whoever wrote the line.
    """
    return max(_AS_IT_IS.findall(text), key=len, default="").encode()


def find(files: Sequence[str], wanted: str, query: Query) -> tuple[list[Fields], Intake]:
    """
    All lines of the operations that *wanted* names: by call, caller's op, trace, workflow, actor, request or write.
    """
    intake = Intake()
    piece = needle(wanted)
    hits = [
        fields
        for _, line in scan(files, lambda line: piece in line, query, intake)
        if any((fields := told(line, query)).get(name) == wanted for name in ID_FIELDS)
    ]
    intake.kept = len(hits)
    calls = {str(fields["call_id"]) for fields in hits if fields.get("call_id")}
    if any(fields.get("write_id") == wanted for fields in hits):
        # Asked by its write: the lost attempts of that call carry other ids.
        pieces = [needle(call) for call in calls]
        hits = [
            told(line, query)
            for record, line in scan(files, lambda line: any(one in line for one in pieces), query)
            if getattr(record, "call_id", "") in calls
        ]
        intake.kept = len(hits)
    return hits, intake


def winners_of(files: Sequence[str], lines: Iterable[Fields], query: Query) -> dict[str, Fields]:
    """
    The commit lines that beat these losses, by write id and by race; a winner need not be among the lines asked for.
    """
    ids: set[str] = set()
    for fields in lines:
        if fields.get("event") == "occ.conflict":
            ids.update(filter(None, (fields.get("winner"), fields.get("race"), *fields.get("races", ()))))
    if not ids:
        return {}
    found: dict[str, Fields] = {}
    everything = Query(rename=query.rename)
    for record, line in scan(files, lambda line: b"occ.committed" in line, everything):
        if isinstance(record, Committed):
            for name in ids.intersection((record.write_id, record.race, *record.races)):
                found.setdefault(name, told(line, query))
    return found


def _seconds(fields: Fields) -> float:
    return seconds_of(str(fields.get("timestamp", ""))) or 0.0


def order(fields: Fields) -> tuple[int, float, int]:
    """
    Attempts by number, the end of the operation last; clocks decide only between equals.
    """
    return (
        int(fields.get("event") != "occ.conflict"),
        fields.get("attempt") or 0,
        int(_seconds(fields) * 1e6),
    )


def beaten_by(fields: Fields, winners: dict[str, Fields]) -> Fields:
    """
    Who beat an attempt, as far as the log knows.
    """
    names = [fields.get("winner"), fields.get("race"), *fields.get("races", ())]
    hit = next((winners[name] for name in names if name and name in winners), None)
    found: Fields = {"write_id": fields.get("winner") or None, "kind": fields.get("winner_kind") or None}
    if hit is None:
        found["writer"] = "(outside the toolkit)" if fields.get("winner_kind") == "foreign" else None
        return found
    same = hit.get("write_id") == fields.get("winner") or not fields.get("winner")
    return found | {
        "writer": hit.get("writer"),
        "inst": hit.get("inst"),
        "op": hit.get("op"),
        "call_id": hit.get("call_id"),
        "before_s": round(_seconds(fields) - _seconds(hit), 6),
        "basis": ("write" if fields.get("winner") else "race") if same else "race",
    }


def tell(lines: list[Fields], winners: dict[str, Fields]) -> Fields:
    """
    One call as a story; *lines* are its own.
    """
    lines = sorted(lines, key=order)
    last = lines[-1]
    began = min(
        _seconds(one) - (one.get("read_s") or 0) - (one.get("fn_s") or 0) - (one.get("write_s") or 0)
        for one in lines
    )
    attempts: list[Fields] = []
    for fields in lines:
        lost = fields["event"] == "occ.conflict"
        if not lost and fields["event"] != "occ.committed":
            continue
        spent = sum(fields.get(name) or 0.0 for name in ("read_s", "fn_s", "write_s"))
        attempts.append(
            {
                "attempt": fields.get("attempt"),
                "result": "lost" if lost else "committed",
                "offset_s": round(max(0.0, _seconds(fields) - spent - began), 6),
                "base_etag": fields.get("base_etag"),
                "read_s": fields.get("read_s") or 0.0,
                "fn_s": fields.get("fn_s") or 0.0,
                "write_s": fields.get("write_s") or 0.0,
                "wait_s": (fields.get("wait_s") or 0.0) if lost else 0.0,
                "cause": fields.get("cause") if lost else None,
                "winner": beaten_by(fields, winners) if lost else None,
            }
        )
    end = last["event"] != "occ.conflict"
    lost_s = sum(one.get("lost_s") or 0.0 for one in lines if one["event"] == "occ.conflict")
    waited = sum(one.get("wait_s") or 0.0 for one in lines if one["event"] == "occ.conflict")
    return {
        **{
            name: last.get(name)
            for name in ("call_id", "op_id", "op", "store", "writer", "inst", "workflow_id")
        },
        "key": last.get("key") or ", ".join(last.get("keys") or ()),
        "result": _ENDS.get(last["event"], "not finished in this log"),
        "reason": last.get("reason"),
        "receipt": last.get("receipt"),
        "write_id": last.get("write_id"),
        "at": last.get("timestamp"),
        "attempts": last.get("attempt") or len(attempts),
        "max_attempts": last.get("max_attempts") or 0,
        "total_s": (last.get("total_s") if end else None) or round(_seconds(last) - began, 6),
        "lost_s": round(lost_s, 6),
        "wait_s": round(waited, 6),
        "steps": attempts,
    }


def stories(files: Sequence[str], wanted: str, *, limit: int = 20, query: Query = EVERYTHING) -> Fields:
    """
    The stories of every call that *wanted* names, in the order they ended.
    """
    lines, intake = find(files, wanted, query)
    winners = winners_of(files, lines, query)
    calls: dict[str, list[Fields]] = {}
    for number, fields in enumerate(lines):
        calls.setdefault(str(fields.get("call_id") or f"line {number}"), []).append(fields)
    found = sorted((tell(one, winners) for one in calls.values()), key=lambda story: str(story["at"]))
    least = min((one.get("sample", 1.0) for one in lines), default=1.0)
    return {
        "id": wanted,
        "stories": found[:limit],
        "all_stories": len(found),
        "read": footer(intake, least_sample=least),
    }
