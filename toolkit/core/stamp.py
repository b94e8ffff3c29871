"""
The stamp: what the toolkit keeps in ``_occ`` beside the visible members, format 1.

==== =====================================================================================================
f    format number; an unknown one is read, never written
v    version of the value: id of the toolkit write that made it, or ``@…`` for one made by a plain writer
l    id of the last toolkit write, when that write did not change the value (a fence, a repeat)
k    its kind, when it was no call
n    how many toolkit writes this incarnation has seen
i    incarnation: the store's ETag, or ``absent``, that the stamp was born on
h    digest of the visible members; if it does not match, a plain writer was here
w    per writing process: number and time (s) of its last write; proof that this write landed
ops  ids of callers' operations: base64 of 14-byte records (hash, time, tag)
d    how many slots or ids were dropped before their time; absence proves nothing across a drop
exp  when the value expires (Unix time); decides alone, the store's TTL only collects garbage
gone the key is deleted: a tombstone
e    the value is wrapped as ``{"value": …}``
tx   intent of a transaction under way; counts only while ``h`` matches
==== =====================================================================================================
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from toolkit.errors import CorruptValueError

FORMAT: Final = 1
ABSENT_INCARNATION: Final = "absent"
MAX_SLOTS: Final = 64
NONE_SETTLED: Final[Mapping[str, int]] = {}
MIN_IDS: Final = 128
MAX_IDS_BYTES: Final = 16 * 1024
# Seconds a request may still take effect after it was sent; proxies, queues and frozen hosts included.
MESSAGE_LIFE: Final = 3600.0

_RECORD: Final = struct.Struct(">QIH")
MAX_IDS: Final = MAX_IDS_BYTES * 3 // 4 // _RECORD.size


class WriteId(msgspec.Struct, frozen=True):
    """
    Names one write of one process: a random 64-bit writer and a number that only grows.
    """

    writer: str
    number: int

    def __str__(self) -> str:
        return f"{self.writer}-{self.number:x}"


class Slot(msgspec.Struct, frozen=True):
    """
    The last write of one process to this key.
    """

    writer: str
    number: int
    at: int


class OpId(msgspec.Struct, frozen=True):
    """
    A caller's operation id as the stamp keeps it: a 64-bit hash, and a tag of the verb and function it belongs to.
    """

    hash: int
    tag: int

    @classmethod
    def of(cls, op_id: str, kind: str) -> OpId:
        hashed = hashlib.blake2b(op_id.encode(), digest_size=8).digest()
        tag = hashlib.blake2b(kind.encode(), digest_size=2).digest()
        return cls(int.from_bytes(hashed, "big"), int.from_bytes(tag, "big"))


class Applied(msgspec.Struct, frozen=True):
    """
    An operation this key has seen, and when.
    """

    hash: int
    at: int
    tag: int


class Stamp(msgspec.Struct, frozen=True):
    """
    A parsed stamp; see the table above.
    """

    version: str
    incarnation: str
    digest: str
    writes: int = 1
    last: str = ""
    kind: str = ""
    slots: tuple[Slot, ...] = ()
    ops: tuple[Applied, ...] = ()
    drops: int = 0
    expires: float | None = None
    gone: bool = False
    envelope: bool = False
    intent: dict[str, Any] | None = None
    format: int = FORMAT

    @property
    def last_write(self) -> str:
        return self.last or self.version

    def slot_of(self, writer: str) -> int:
        """
        The number of the last write of a process here; 0 when there is none.
        """
        for slot in self.slots:
            if slot.writer == writer:
                return slot.number
        return 0

    def applied(self, op: OpId) -> Applied | None:
        for entry in self.ops:
            if entry.hash == op.hash:
                return entry
        return None


def dump(stamp: Stamp) -> dict[str, Any]:
    """
    The JSON form, without what is empty.
    """
    out: dict[str, Any] = {"f": stamp.format, "v": stamp.version, "n": stamp.writes, "i": stamp.incarnation}
    out["h"] = stamp.digest
    if stamp.last:
        out["l"] = stamp.last
    if stamp.kind:
        out["k"] = stamp.kind
    if stamp.slots:
        slots = out["w"] = {}
        for slot in stamp.slots:
            slots[slot.writer] = [slot.number, slot.at]
    if stamp.ops:
        out["ops"] = _pack(stamp.ops)
    if stamp.drops:
        out["d"] = stamp.drops
    if stamp.expires is not None:
        out["exp"] = stamp.expires
    if stamp.gone:
        out["gone"] = 1
    if stamp.envelope:
        out["e"] = 1
    if stamp.intent is not None:
        out["tx"] = stamp.intent
    return out


def parse(raw: Any, key: str) -> Stamp:
    """
    Read a stamp of any format this one understands; a later format keeps only what it shares with this one.

    Raises:
        CorruptValueError: ``_occ`` is there but is no stamp.
    """
    try:
        number = raw["f"]
        if type(number) is not int or number < 1:
            raise ValueError("f")
        if number != FORMAT:
            return _parse_later(raw, number)
        return _parse_first(raw)
    except (LookupError, TypeError, ValueError, AttributeError, binascii.Error, struct.error) as error:
        raise CorruptValueError(
            f"key {key!r}: its {'_occ'!r} member is not a stamp of this toolkit; the value was left as it is. "
            f"Look at it with `occ inspect`, drop the stamp with `occ strip`",
            key=key,
        ) from error


def _parse_first(raw: Any) -> Stamp:
    expires = raw.get("exp")
    if expires is not None and type(expires) not in (int, float):
        raise ValueError("exp")
    slots = tuple([Slot(writer, _int(pair[0]), _int(pair[1])) for writer, pair in raw.get("w", {}).items()])
    intent: dict[str, Any] | None = raw.get("tx")
    if intent is not None and type(intent) is not dict:
        raise ValueError("tx")
    return Stamp(
        version=_text(raw["v"]),
        incarnation=_text(raw["i"]),
        digest=_text(raw["h"]),
        writes=_int(raw["n"]),
        last=_text(raw.get("l", "")),
        kind=_text(raw.get("k", "")),
        slots=slots,
        ops=_unpack(raw["ops"]) if "ops" in raw else (),
        drops=_int(raw.get("d", 0)),
        expires=expires,
        gone=bool(raw.get("gone")),
        envelope=bool(raw.get("e")),
        intent=intent,
    )


def _parse_later(raw: Any, number: int) -> Stamp:
    text = {name: raw.get(name, "") if isinstance(raw.get(name, ""), str) else "" for name in ("v", "i", "h")}
    expires = raw.get("exp")
    return Stamp(
        version=text["v"] or f"f{number}",
        incarnation=text["i"],
        digest=text["h"],
        expires=expires if type(expires) in (int, float) else None,
        gone=bool(raw.get("gone")),
        envelope=bool(raw.get("e")),
        format=number,
    )


def _int(value: Any) -> int:
    if type(value) is float and value.is_integer():  # a store that rewrites numbers
        return int(value)
    if type(value) is not int or value < 0:
        raise ValueError("not a count")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError("not a text")
    return value


def _pack(ops: tuple[Applied, ...]) -> str:
    return base64.b64encode(b"".join([_RECORD.pack(op.hash, op.at, op.tag) for op in ops])).decode()


def _unpack(text: str) -> tuple[Applied, ...]:
    data = base64.b64decode(text, validate=True)
    return tuple([Applied(*record) for record in _RECORD.iter_unpack(data)])


def keep_slots(
    slots: tuple[Slot, ...], mine: Slot | None, now: float, settled: Mapping[str, int] = NONE_SETTLED
) -> tuple[tuple[Slot, ...], int]:
    """
    The slots after a write of ``mine``, and how many had to go before their time.

    ``settled`` has, of this process's identities, the number up to which their writes are known: nobody will ask for
    those slots.
    """
    own = mine.writer if mine is not None else ""
    if mine is not None and (not slots or (len(slots) == 1 and slots[0].writer == own)):
        return (mine,), 0  # the common case: nobody else writes this key
    kept = [
        slot
        for slot in slots
        if slot.writer != own and now - slot.at < MESSAGE_LIFE and slot.number > settled.get(slot.writer, 0)
    ]
    if mine is not None:
        kept.append(mine)
    over = len(kept) - MAX_SLOTS
    if over > 0:
        kept = sorted(kept, key=lambda slot: slot.at)[over:]
    return tuple(kept), max(over, 0)


def keep_ops(ops: tuple[Applied, ...], now: float, window: float, room: int) -> tuple[Applied, ...]:
    """
    The ids to carry on so that ``room`` more fit: none younger than the window is dropped, nor the newest 128.

    The result may leave less room than asked for; the caller counts.
    """
    if len(ops) + room <= MIN_IDS:
        return ops
    droppable = len(ops) + room - MIN_IDS
    kept = list(ops)
    cut = 0
    while cut < droppable and cut < len(kept) and now - kept[cut].at >= window:
        cut += 1
    return tuple(kept[cut:])
