"""
The stamp: what goes in comes out, what is no stamp is refused, and nothing is dropped unnoticed before its time.
"""

from __future__ import annotations

from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.core.stamp import (
    FORMAT,
    MAX_IDS,
    MAX_SLOTS,
    MESSAGE_LIFE,
    MIN_IDS,
    Applied,
    OpId,
    Slot,
    Stamp,
    dump,
    keep_ops,
    keep_slots,
    parse,
)
from toolkit.errors import CorruptValueError

names = st.text("0123456789abcdef", min_size=1, max_size=16)
moments = st.integers(0, 2**32 - 1)
slots = st.builds(Slot, names, st.integers(1, 2**50), moments)
applied = st.builds(Applied, st.integers(0, 2**64 - 1), moments, st.integers(0, 2**16 - 1))


@st.composite
def stamps(draw: st.DrawFn) -> Stamp:
    last = draw(names | st.just(""))
    return Stamp(
        version=draw(names),
        incarnation=draw(names),
        digest=draw(names),
        writes=draw(st.integers(1, 2**40)),
        last=last,
        kind=draw(st.sampled_from(("fence", "committed"))) if last else "",
        slots=tuple(draw(st.lists(slots, max_size=5, unique_by=lambda slot: slot.writer))),
        ops=tuple(draw(st.lists(applied, max_size=20))),
        drops=draw(st.integers(0, 2**30)),
        expires=draw(st.none() | st.floats(0, 4e9)),
        gone=draw(st.booleans()),
        envelope=draw(st.booleans()),
        intent=draw(st.none() | st.just({"id": "t1", "old": [1, {"a": None}]})),
    )


@given(stamps())
def test_a_stamp_survives_being_stored(stamp: Stamp) -> None:
    """Dumped, encoded as JSON, decoded and parsed it is the same stamp."""
    assert parse(msgspec.json.decode(msgspec.json.encode(dump(stamp))), "k") == stamp


@given(stamps())
def test_a_stamp_survives_a_store_that_rewrites_json(stamp: Stamp) -> None:
    """Members in another order and whole numbers printed as floats make no difference."""

    def rewritten(raw: object) -> object:
        if isinstance(raw, dict):
            return {name: rewritten(raw[name]) for name in sorted(raw, reverse=True)}
        if isinstance(raw, list):
            return [rewritten(item) for item in raw]
        return float(raw) if type(raw) is int and abs(raw) < 2**53 else raw

    raw = dump(stamp)
    again = parse({**rewritten(raw), "f": FORMAT}, "k")  # type: ignore[dict-item]
    assert (again.version, again.drops, again.ops, set(again.slots)) == (
        stamp.version,
        stamp.drops,
        stamp.ops,
        set(stamp.slots),
    )


GOOD = dump(Stamp("v", "absent", "h", slots=(Slot("a", 1, 2),), ops=(Applied(1, 2, 3),)))


@pytest.mark.parametrize(
    "raw",
    [
        None,
        1,
        "text",
        [],
        {},
        {**GOOD, "f": 0},
        {**GOOD, "f": True},
        {**GOOD, "f": "1"},
        {**GOOD, "v": 7},
        {**GOOD, "n": -1},
        {**GOOD, "n": 1.5},
        {**GOOD, "i": None},
        {**GOOD, "h": 3},
        {**GOOD, "w": []},
        {**GOOD, "w": {"a": 1}},
        {**GOOD, "w": {"a": [1]}},
        {**GOOD, "w": {"a": ["1", 2]}},
        {**GOOD, "ops": "not base64!"},
        {**GOOD, "ops": "AAAA"},
        {**GOOD, "ops": 5},
        {**GOOD, "exp": "tomorrow"},
        {**GOOD, "exp": True},
        {**GOOD, "tx": "t1"},
        {key: value for key, value in GOOD.items() if key != "h"},
    ],
)
def test_what_is_no_stamp_is_refused(raw: object) -> None:
    """A damaged stamp is a typed error that names the key and the cure, never a guess."""
    with pytest.raises(CorruptValueError, match=r"key 'k'.*occ inspect"):
        parse(raw, "k")


def test_a_later_format_is_read_for_what_it_shares() -> None:
    """Expiry, deletion and envelope of a later format are understood; slots and ids are left alone."""
    later = parse({"f": 2, "v": {"new": 1}, "i": "x", "h": "y", "exp": 5, "gone": 1, "e": 1, "w": "new"}, "k")
    assert later == Stamp("f2", "x", "y", expires=5, gone=True, envelope=True, format=2)


def test_an_operation_id_is_hashed_apart_from_what_it_belongs_to() -> None:
    """The same id with another verb has the same hash and another tag."""
    one, other = OpId.of("m-1", "update:f"), OpId.of("m-1", "set:set")
    assert (one.hash == other.hash, one.tag == other.tag) == (True, False)


def test_slots_age_out_without_a_drop() -> None:
    """A slot older than any message goes in the ordinary way: its absence is no longer evidence of anything."""
    old, young, mine = (
        Slot("old", 1, 0),
        Slot("young", 1, int(MESSAGE_LIFE)),
        Slot("mine", 9, int(MESSAGE_LIFE)),
    )
    assert keep_slots((old, young), mine, MESSAGE_LIFE) == ((young, mine), 0)


def test_a_slot_that_goes_before_its_time_is_counted() -> None:
    """The sixty-fifth process pushes out the oldest slot, and the stamp says so."""
    full = tuple(Slot(f"w{number}", 1, 100 + number) for number in range(MAX_SLOTS))
    kept, dropped = keep_slots(full, Slot("mine", 1, 500), 500.0)
    assert (len(kept), dropped, kept[-1].writer) == (MAX_SLOTS, 1, "mine")
    assert "w0" not in {slot.writer for slot in kept}


def test_a_process_has_one_slot() -> None:
    """The next write of a process takes the place of its last one."""
    assert keep_slots((Slot("a", 1, 1), Slot("b", 1, 1)), Slot("a", 2, 2), 2.0) == (
        (Slot("b", 1, 1), Slot("a", 2, 2)),
        0,
    )


@given(
    st.lists(st.integers(0, 2000), max_size=3 * MIN_IDS).map(sorted),
    st.integers(0, 2000),
    st.integers(1, 900),
    st.integers(1, 9),
)
def test_no_id_is_forgotten_inside_its_window(ages: list[int], now: int, window: int, room: int) -> None:
    """Whatever is asked for, ids younger than the window stay, and at least the newest 128 less the room."""
    ops = tuple(Applied(number, at, 0) for number, at in enumerate(ages))
    kept = keep_ops(ops, float(now), float(window), room)
    assert kept == ops[len(ops) - len(kept) :]
    assert {op for op in ops if now - op.at < window} <= set(kept)
    assert len(kept) >= min(len(ops), MIN_IDS - room)


def test_the_ids_fit_their_room() -> None:
    """As many ids as a stamp may hold are at most 16 KiB of text."""
    full = Stamp(
        "v", "absent", "h", ops=tuple(Applied(2**64 - 1, 2**32 - 1, 2**16 - 1) for _ in range(MAX_IDS))
    )
    assert len(dump(full)["ops"]) <= 16 * 1024


def test_a_stamp_of_one_writer_is_small() -> None:
    """Under 200 bytes after 100,000 writes of one writer without operation ids, wherever it was born, changed or not."""
    for incarnation in ("absent", str(UUID(int=0))):
        for last in ("", f"{'f' * 16}-186a0"):
            stamp = Stamp(
                f"{'f' * 16}-1869f",
                incarnation,
                "f" * 16,
                writes=100_000,
                last=last,
                slots=(Slot("f" * 16, 100_000, 1_700_000_000),),
            )
            assert len(msgspec.json.encode({"_occ": dump(stamp)})) < 200


def test_slots_of_writes_whose_fate_is_known_go():
    """Of an identity that is at work again only the writes of its earlier runs are known."""
    slots = (Slot("a", 3, 1), Slot("b", 4, 1), Slot("c", 1, 1))
    mine = Slot("d", 1, 2)
    assert keep_slots(slots, mine, 2.0, {"a": 3, "b": 3}) == ((Slot("b", 4, 1), Slot("c", 1, 1), mine), 0)
