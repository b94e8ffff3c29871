"""
A key as it is stored, decoded: as plain data for ``--json`` and on the terminal.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from toolkit.cli._show import clean, seconds
from toolkit.cli._upkeep import Shelf, is_record, understand
from toolkit.core.intents import intent_of
from toolkit.core.model import ABSENT
from toolkit.core.records import load
from toolkit.core.seen import Seen
from toolkit.core.stamp import FORMAT, OpId
from toolkit.core.value import decode
from toolkit.errors import CorruptValueError

if TYPE_CHECKING:
    from rich.table import Table

Facts = dict[str, Any]

_MEANING = {
    "missing": "nothing is stored under this key",
    "plain": "a value without a stamp: no toolkit write yet",
    "stamped": "a value of the toolkit",
    "foreign": "a plain writer changed it after the last toolkit write",
    "expired": "its expiry has passed: readers see nothing",
    "tombstone": "deleted; the row stays until late copies of old writes are gone",
    "later": "written by a later release: read, never written by this one",
    "corrupt": "its stamp cannot be read; mend it with `occ repair`, or drop the stamp with `occ strip`",
    "not JSON": "the stored bytes are not JSON",
    "record": "a record of the toolkit's transactions",
}


def portrait(shelf: Shelf, key: str, op_id: str | None = None) -> Facts:
    """
    Everything one read of a key tells, and the decision of a transaction that is under way on it.
    """
    row = shelf.read(key)
    found: Facts = {"key": key, "store": shelf.store, "type": f"{shelf.profile.type}/{shelf.profile.version}"}
    found |= {"state": "missing", "bytes": len(row.data), "store_etag": row.etag}
    if row.missing:
        return found
    if is_record(key):
        return found | {"state": "record", "value": decode(row.data, key)}
    seen, raw, why = understand(key, row)
    if seen is None:
        state = "not JSON" if raw is None else "corrupt"
        return found | {"state": state, "why": why, "value": raw}
    now = time.time()
    found["state"] = _state(seen, now)
    found["value"] = None if seen.value is ABSENT else seen.value
    version = seen.version(now)
    found["etag"] = ABSENT.value if version is ABSENT else str(version)
    if seen.stamp is not None:
        found["stamp"] = _stamp(seen, now)
        if op_id is not None:
            wanted = OpId.of(op_id, "").hash
            found["op_id"] = {"op_id": op_id, "recorded": any(op.hash == wanted for op in seen.stamp.ops)}
    if (intent := intent_of(seen)) is not None:
        found["intent"] = {
            "transaction": intent.tx,
            "kind": intent.kind,
            "record": intent.record,
            "age_s": round(now - intent.started, 3),
            "lease_left_s": round(intent.lease - now, 3),
            "decision": _decision(shelf, intent.record, intent.tx),
        }
    return found


def _state(seen: Seen, now: float) -> str:
    if seen.stamp is None:
        return "plain"
    if seen.stamp.format != FORMAT:
        return "later"
    if not seen.valid:
        return "foreign"
    if seen.value is ABSENT:
        return "tombstone"
    return "stamped" if seen.exists(now) else "expired"


def _stamp(seen: Seen, now: float) -> Facts:
    stamp = seen.stamp
    assert stamp is not None
    return {
        "format": stamp.format,
        "version": stamp.version,
        "last_write": stamp.last_write,
        "last_kind": stamp.kind or "committed",
        "writes": stamp.writes,
        "incarnation": stamp.incarnation,
        "digest": stamp.digest,
        "digest_matches": seen.valid,
        "envelope": stamp.envelope,
        "expires": None if stamp.expires is None else _moment(stamp.expires),
        "expires_in_s": None if stamp.expires is None else round(stamp.expires - now, 3),
        "dropped": stamp.drops,
        "slots": [
            {"writer": slot.writer, "write": f"{slot.writer}-{slot.number:x}", "age_s": round(now - slot.at)}
            for slot in stamp.slots
        ],
        "op_ids": [{"hash": f"{op.hash:016x}", "age_s": round(now - op.at)} for op in stamp.ops],
    }


def _decision(shelf: Shelf, record: str, tx: str) -> str:
    try:
        decided = load(record, shelf.read(record)).decides(tx)
    except CorruptValueError as error:
        return f"unreadable: {error}"
    return {True: "committed", False: "aborted", None: "undecided"}[decided]


def _moment(wall: float) -> str:
    try:
        return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return f"{wall:g}"


# -- on the terminal -----------------------------------------------------------------------------------------------------


def show(found: Facts) -> None:
    """
    Print the portrait for a person.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, emoji=False)
    table = _table()
    _add(table, "key", f"{found['key']}   in {found['store']} ({found['type']})")
    _add(table, "state", f"{found['state']}: {_MEANING[found['state']]}")
    if found["state"] != "missing":
        _add(table, "stored", f"{found['bytes']} bytes, the store's ETag {found['store_etag']}")
    if "etag" in found:
        _add(table, "entry.etag", found["etag"])
    if "why" in found:
        _add(table, "why", found["why"])
    for name in ("stamp", "intent", "op_id"):
        if name in found:
            _SHOWN[name](table, found[name])
    console.print(table)
    if "value" in found and found["state"] not in ("tombstone", "not JSON"):
        console.print(Text(clean_json(found["value"])), soft_wrap=True)


def clean_json(value: Any) -> str:
    """
    A value over several lines; JSON itself spells out control characters, direction marks are spelled out here.
    """
    lines = json.dumps(value, indent=2, ensure_ascii=False).split("\n")
    return "\n".join(clean(line) for line in lines)


def _table() -> Table:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _add(table: Table, name: str, text: str) -> None:
    from rich.text import Text

    table.add_row(name, Text(clean(text)))


def _show_stamp(table: Table, stamp: Facts) -> None:
    kind = (
        ""
        if stamp["last_kind"] == "committed"
        else f", last touched by {stamp['last_write']} ({stamp['last_kind']})"
    )
    _add(table, "version", f"{stamp['version']}{kind}")
    _add(
        table,
        "incarnation",
        f"{stamp['incarnation']}, {stamp['writes']} writes since, {stamp['dropped']} traces dropped",
    )
    _add(
        table,
        "digest",
        f"{stamp['digest']} ({'matches' if stamp['digest_matches'] else 'does not match the value'})",
    )
    if stamp["expires"] is not None:
        _add(table, "expires", f"{stamp['expires']} (in {stamp['expires_in_s']:g} s)")
    for slot in stamp["slots"]:
        _add(table, "last write of", f"{slot['writer']}: {slot['write']}, {seconds(slot['age_s'])} ago")
    if stamp["op_ids"]:
        youngest = min(op["age_s"] for op in stamp["op_ids"])
        _add(table, "operation ids", f"{len(stamp['op_ids'])}, the latest {seconds(youngest)} ago")


def _show_intent(table: Table, intent: Facts) -> None:
    _add(table, "transaction", f"{intent['transaction']}, {intent['kind']}, {intent['decision']}")
    _add(table, "", f"began {intent['age_s']:g} s ago, its lease ends in {intent['lease_left_s']:g} s")
    _add(table, "record", intent["record"])


def _show_op_id(table: Table, asked: Facts) -> None:
    _add(
        table,
        "asked for",
        f"{asked['op_id']}: {'applied here' if asked['recorded'] else 'not recorded here'}",
    )


_SHOWN = {"stamp": _show_stamp, "intent": _show_intent, "op_id": _show_op_id}
