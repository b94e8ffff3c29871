"""
Did it land? Every row of the table that decides, and the receipt that asks again.
"""

from __future__ import annotations

import pytest

from tests.core.support import EPOCH, NOTHING, seen_of
from toolkit.core.compose import body
from toolkit.core.judge import Base, Fate, Receipt, judge, judge_receipt
from toolkit.core.model import Row
from toolkit.core.seen import Seen, see
from toolkit.core.stamp import MESSAGE_LIFE, Slot, Stamp, WriteId
from toolkit.core.value import digest, encode

MEMBERS = {"n": 1}
MINE = WriteId("me", 5)


def stamped(
    etag: str,
    *slots: Slot,
    incarnation: str = "absent",
    drops: int = 0,
    valid: bool = True,
    gone: bool = False,
) -> Seen:
    """A stored object as a toolkit write left it, or (not *valid*) as a plain writer changed it afterwards."""
    members = {} if gone else MEMBERS
    stamp = Stamp("v", incarnation, digest(members), slots=slots, drops=drops, gone=gone)
    return seen_of(body("k", members if valid else {"n": 99}, stamp), etag)


BASE = stamped("1", Slot("me", 4, 0), Slot("you", 7, 0))
UNSTAMPED = seen_of(encode({"n": 0}, "k"), "7")
SCALAR = seen_of(b"3", "7")


@pytest.mark.parametrize(
    ("base", "seen", "refused", "fate"),
    [
        # My slot is there: it landed, whoever wrote since, whatever the answers said.
        (BASE, stamped("2", Slot("me", 5, 0)), False, Fate.LANDED),
        (BASE, stamped("2", Slot("me", 5, 0)), True, Fate.LANDED),
        (BASE, stamped("3", Slot("me", 5, 0), Slot("you", 8, 0)), True, Fate.LANDED),
        (BASE, stamped("3", Slot("me", 5, 0), drops=9), False, Fate.LANDED),
        (BASE, stamped("3", Slot("me", 5, 0), incarnation="x"), False, Fate.LANDED),
        (BASE, stamped("3", Slot("me", 5, 0), valid=False), True, Fate.LANDED),
        (BASE, stamped("3", Slot("me", 5, 0), gone=True), False, Fate.LANDED),
        # A later write of mine is there: what I knew before it is not written here.
        (BASE, stamped("3", Slot("me", 6, 0)), False, Fate.UNKNOWABLE),
        (BASE, stamped("3", Slot("me", 6, 0)), True, Fate.UNKNOWABLE),
        # The version it was built on still stands: it may yet land, also after a "conflict".
        (BASE, BASE, False, Fate.PENDING),
        (BASE, BASE, True, Fate.PENDING),
        (NOTHING, NOTHING, False, Fate.PENDING),
        (UNSTAMPED, UNSTAMPED, False, Fate.PENDING),
        (SCALAR, SCALAR, True, Fate.PENDING),
        # Moved on in the incarnation that was read, nothing dropped: it never can.
        (BASE, stamped("2", Slot("me", 4, 0), Slot("you", 8, 0)), False, Fate.LOST),
        (BASE, stamped("2", Slot("you", 8, 0), gone=True), False, Fate.LOST),
        (NOTHING, stamped("2", Slot("you", 1, 0)), False, Fate.LOST),
        (UNSTAMPED, stamped("8", Slot("you", 1, 0), incarnation="7"), False, Fate.LOST),
        # A slot was dropped before its time: it may have been mine.
        (BASE, stamped("2", Slot("you", 8, 0), drops=1), False, Fate.UNKNOWABLE),
        # Born anew since: deleted and made again, or a plain writer took the stamp away.
        (BASE, stamped("2", Slot("you", 8, 0), incarnation="x"), False, Fate.UNKNOWABLE),
        (NOTHING, stamped("2", Slot("you", 8, 0), incarnation="1"), False, Fate.UNKNOWABLE),
        (UNSTAMPED, stamped("9", Slot("you", 8, 0), incarnation="8"), False, Fate.UNKNOWABLE),
        # A plain writer kept, dropped or deleted: the evidence is gone.
        (BASE, stamped("2", Slot("you", 7, 0), valid=False), False, Fate.UNKNOWABLE),
        (BASE, seen_of(encode({"n": 9}, "k"), "2"), False, Fate.UNKNOWABLE),
        (BASE, seen_of(b"9", "2"), False, Fate.UNKNOWABLE),
        (BASE, NOTHING, False, Fate.UNKNOWABLE),
        (SCALAR, seen_of(b"4", "8"), False, Fate.UNKNOWABLE),
        # Only there does it count that every single send was refused by a store that is sent to once.
        (BASE, seen_of(encode({"n": 9}, "k"), "2"), True, Fate.LOST),
        (SCALAR, seen_of(b"4", "8"), True, Fate.LOST),
    ],
)
def test_the_table(base: Seen, seen: Seen, refused: bool, fate: Fate) -> None:
    """What one read proves about a write, row by row."""
    assert judge(Base.of(base), MINE, seen, refused=refused) is fate


def receipt(base: Seen = BASE) -> Receipt:
    return Receipt("k", MINE, Base.of(base), EPOCH)


@pytest.mark.parametrize("base", [BASE, NOTHING, UNSTAMPED, SCALAR])
def test_a_receipt_is_a_small_text_without_values(base: Seen) -> None:
    """It survives its text, which fits a header and holds nothing of the value."""
    text = str(receipt(base))
    assert Receipt.parse(text) == receipt(base)
    assert (text.isascii(), " " in text, len(text) < 200) == (True, False, True)


@pytest.mark.parametrize("text", ["", "occ1", "occ1.", "occ2.abcd", "occ1.W10", "occ1.!!!", "x" * 500])
def test_what_is_no_receipt_is_refused(text: str) -> None:
    """Any other text is a ValueError that says what to pass."""
    with pytest.raises(ValueError, match=r"is not a receipt: pass error\.receipt"):
        Receipt.parse(text)


@pytest.mark.parametrize(
    ("seen", "age", "fate"),
    [
        (stamped("2", Slot("me", 5, 0)), 10 * MESSAGE_LIFE, Fate.LANDED),
        (stamped("2", Slot("you", 8, 0)), MESSAGE_LIFE - 1, Fate.LOST),
        (stamped("2", Slot("you", 8, 0)), MESSAGE_LIFE, Fate.UNKNOWABLE),
        (BASE, MESSAGE_LIFE - 1, Fate.PENDING),
        (BASE, MESSAGE_LIFE, Fate.UNKNOWABLE),
        (stamped("2", Slot("you", 8, 0), drops=1), 0, Fate.UNKNOWABLE),
    ],
)
def test_a_receipt_expires_with_its_slot(seen: Seen, age: float, fate: Fate) -> None:
    """After the message life a slot may have gone in the ordinary way: only presence still proves something."""
    assert judge_receipt(receipt(), seen, EPOCH + age) is fate


def test_a_counting_etag_proves_a_miss_beside_a_plain_writer():
    """One write since the read, and it is not ours: the write can never land. Two leave it open."""
    base = Base("4", "absent", 0)
    write = WriteId("w", 1)
    for etag, fate in (("5", Fate.LOST), ("6", Fate.UNKNOWABLE), ("4x", Fate.UNKNOWABLE)):
        seen = see("k", Row(b'{"n":1}', etag))
        assert judge(base, write, seen, refused=False, counts=True) is fate
    assert judge(base, write, see("k", Row(b'{"n":1}', "5")), refused=False) is Fate.UNKNOWABLE
    created = Base("", "absent", 0)
    assert judge(created, write, see("k", Row(b'{"n":1}', "1")), refused=False, counts=True) is Fate.LOST
