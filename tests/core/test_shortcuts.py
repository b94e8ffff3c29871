"""
Shortcuts answer what the long way answers: rows known again by their bytes, digests of numbers as text.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from toolkit import DELETE, StateStore
from toolkit.core.model import Row
from toolkit.core.seen import OwnRows, see
from toolkit.core.value import digest, seal
from toolkit.testing import MemoryStore

NUMBERS = [
    0.0, -0.0, 1.0, -1.0, 10.0, 100.0, 1e15, 1e16, 1e22, 1e23, 1.5e300, 5e-324, 1.7976931348623157e308,
    2.0**53, 2.0**53 + 2, -(2.0**53), 123456789012345680.0, 0.1, 1.05, 2.5, 1e-7, 9007199254740993, 3, -7,
]  # fmt: skip
TEXTS = ["1.0", "1.0,", "2.0}", 'q"1.0"', "x\\", "1e5", "-0", "é", "", "9.0]"]


def drawn(chance: random.Random, depth: int = 0) -> Any:
    """Any JSON value, with numbers and texts that look alike."""
    kind = chance.random()
    if kind < 0.3 and depth < 4:
        return {chance.choice(TEXTS) + str(n): drawn(chance, depth + 1) for n in range(chance.randrange(4))}
    if kind < 0.5 and depth < 4:
        return [drawn(chance, depth + 1) for _ in range(chance.randrange(4))]
    return chance.choice(
        [*NUMBERS, *TEXTS, True, False, None, chance.random() * 10.0 ** chance.randrange(-20, 20)]
    )


def spelled(value: Any) -> Any:
    """Every whole float as the integer its decimal text names: the rule of format 1, part by part."""
    if isinstance(value, dict):
        return {name: spelled(item) for name, item in value.items()}
    if isinstance(value, list):
        return [spelled(item) for item in value]
    return int(Decimal(repr(value))) if isinstance(value, float) and value.is_integer() else value


@pytest.mark.parametrize("seed", range(8))
def test_a_digest_is_that_of_the_rule(seed: int) -> None:
    """
    Whatever way the text is made canonical, the digest is the one older stamps hold.
    """
    chance = random.Random(seed)
    for number in range(400):
        value = drawn(chance)
        text = msgspec.json.encode(spelled(value), order="sorted")
        expected = hashlib.blake2b(text, digest_size=8).hexdigest()
        assert digest(value) == expected, f"seed {seed}, value {number}: {value!r}"


def becomes(value: Any) -> Callable[[Any], Any]:
    """A change to this value, whatever was there."""
    return lambda _: value


@pytest.mark.parametrize("envelope", [False, True])
def test_an_own_row_is_understood_as_any_row(envelope: bool) -> None:
    """
    After each write the row that is read back means the same with and without the shortcut, tombstones included.
    """
    port = MemoryStore(profile="sqlite")
    with StateStore("s", port=port, envelope=envelope) as store:
        rows = store._live().rows
        for step, change in enumerate(
            [
                {"n": 1},
                {"n": 1},
                {},
                {"a": {"b": [1.0, "x"]}},
                DELETE,
                {"n": 2},
                *([[1], 7] if envelope else []),
            ]
        ):
            store.update("k", becomes(change), default=None, op_id=f"op-{step}", ttl=60.0 + step)
            row = port.get("k", strong=True, timeout=1.0)
            assert isinstance(row, Row)
            assert "k" in rows._rows, step
            assert rows.see("k", row) == see("k", row), step


def test_a_row_that_differs_by_a_byte_gets_the_long_look() -> None:
    """
    A plain writer who changed a value beside the toolkit's stamp is seen as before.
    """
    port = MemoryStore(profile="sqlite")
    with StateStore("s", port=port) as store:
        store.set("k", {"n": 1})
        row = port.get("k", strong=True, timeout=1.0)
        assert isinstance(row, Row)
        foreign = Row(row.data.replace(b'"n":1', b'"n":2'), row.etag)
        seen = store._live().rows.see("k", foreign)
        assert (seen.value, seen.valid) == ({"n": 2}, False)


def test_what_is_remembered_is_bounded() -> None:
    """
    Large rows are not kept, and many keys push each other out.
    """
    rows = OwnRows()
    stamp: Any = object()
    rows.wrote("big", b"x" * 100_000, stamp)
    for number in range(2000):
        rows.wrote(f"k-{number}", b"{}", stamp)
    assert "big" not in rows._rows
    assert len(rows._rows) <= 256


def test_what_is_sealed_is_out_of_reach() -> None:
    """
    Each copy is its holder's own; the object that was sealed and the copies share nothing.
    """
    source = {"tags": ["a"]}
    sealed = seal(source, "k")
    source["tags"].append("b")
    first, second = sealed.copy("k"), sealed.copy("k")
    first["tags"].append("c")
    assert (second, sealed.peek(), sealed.copy("k")) == ({"tags": ["a"]},) * 3
