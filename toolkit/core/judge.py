"""
Did it land? The decision after anything but a clean yes, and the receipt that lets anybody ask again.

A conflict answer is no proof that the write did not happen: a layer below may have sent it twice, and the second copy
lost to the first (dapr/dapr#6018, etcd-io/etcd#18424). Only the stored value tells.
"""

from __future__ import annotations

import base64
import binascii
import enum

import msgspec

from toolkit.core.seen import Seen
from toolkit.core.stamp import ABSENT_INCARNATION, MESSAGE_LIFE, WriteId
from toolkit.errors import OutcomeUnknownError


class Fate(enum.Enum):
    """
    What a read proves about a write: LANDED it took effect; LOST it did not and never can; PENDING the version it was
    built on still stands, so it may yet land; UNKNOWABLE the evidence is gone.
    """

    LANDED = "landed"
    LOST = "lost"
    PENDING = "pending"
    UNKNOWABLE = "unknowable"


class Base(msgspec.Struct, frozen=True):
    """
    What a write was built on: all a later judge needs to know of the read before it.
    """

    etag: str
    incarnation: str
    drops: int
    plain: bool = False

    @classmethod
    def of(cls, seen: Seen) -> Base:
        return cls(seen.row.etag, seen.incarnation, seen.drops, seen.plain)


def judge(base: Base, write: WriteId, seen: Seen, *, refused: bool, counts: bool = False) -> Fate:
    """
    Decide the fate of a write from one read after it.

    Args:
        base: What the write was built on.
        write: Its id.
        seen: A strong read that began after the last answer.
        refused: The one send was answered by a definite conflict, on a store whose driver does not send twice, or the
            write had no room for an id. It only counts where there is no other evidence; the id in the stamp always
            goes first.
        counts: The store's ETags count the writes of a key.
    """
    stamp = seen.stamp
    slot = stamp.slot_of(write.writer) if stamp is not None else 0
    if slot == write.number:
        return Fate.LANDED
    if slot > write.number:
        # The process went on; it would only have done so once it knew, but what it knew is not written here.
        return Fate.UNKNOWABLE
    if seen.row.etag == base.etag:
        return Fate.PENDING
    # Absence is proof only in the incarnation that was read, with no slot dropped before its time (rule R9).
    if (
        seen.valid
        and stamp is not None
        and stamp.incarnation == base.incarnation
        and stamp.drops == base.drops
    ):
        return Fate.LOST
    if counts and _is_next(base.etag, seen.row.etag):
        # One write since the read, and what stands there is not ours.
        return Fate.LOST
    return Fate.LOST if refused else Fate.UNKNOWABLE


def _is_next(before: str, after: str) -> bool:
    counted = (before or "0").isdecimal() and after.isdecimal()
    return counted and int(after) == int(before or "0") + 1


class Receipt(msgspec.Struct, frozen=True):
    """
    Names one write of unknown outcome; holds no values.
    """

    key: str
    write: WriteId
    base: Base
    at: float

    def __str__(self) -> str:
        fields = [self.key, self.write.writer, self.write.number, self.base.etag, self.base.incarnation]
        body = msgspec.json.encode([*fields, self.base.drops, int(self.base.plain), int(self.at)])
        return "occ1." + base64.urlsafe_b64encode(body).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Receipt:
        """
        Read a receipt.

        Raises:
            ValueError: The text is not a receipt of this toolkit.
        """
        try:
            head, body = text.split(".", 1)
            if head != "occ1":
                raise ValueError(head)
            raw = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
            kinds = tuple[str, str, int, str, str, int, int, int]
            key, writer, number, etag, incarnation, drops, plain, at = msgspec.json.decode(raw, type=kinds)
        except (ValueError, AttributeError, binascii.Error, msgspec.MsgspecError) as error:
            raise ValueError(f"{str(text)[:24]!r}… is not a receipt: pass error.receipt unchanged") from error
        return cls(key, WriteId(writer, number), Base(etag, incarnation, drops, bool(plain)), float(at))


def judge_receipt(receipt: Receipt, seen: Seen, now: float) -> Fate:
    """
    The same decision, asked later and from anywhere.

    After the message life a slot may have been dropped in the ordinary way, so absence no longer proves anything.
    """
    fate = judge(receipt.base, receipt.write, seen, refused=False)
    if fate in (Fate.LOST, Fate.PENDING) and now - receipt.at >= MESSAGE_LIFE:
        return Fate.UNKNOWABLE
    if fate is Fate.PENDING and receipt.base.etag == "" and receipt.base.incarnation != ABSENT_INCARNATION:
        return Fate.UNKNOWABLE
    return fate


def unknown_error(receipt: Receipt) -> OutcomeUnknownError:
    """
    The error of a caller whose write can be neither confirmed nor ruled out.
    """
    return OutcomeUnknownError(
        f"key {receipt.key!r}: the write was sent and nothing proves, by the deadline, whether it took effect; "
        f"ask store.resolve(error.receipt) later, or repeat the call with the same op_id",
        receipt=str(receipt),
        key=receipt.key,
    )
