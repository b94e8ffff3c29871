"""
What a line says: compared whole with a golden file, held against the schema, and empty of secrets.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.log.conftest import COMMITTED, CONFLICT, GAVE_UP, conflict
from toolkit.core import events as core
from toolkit.core.events import Event
from toolkit.log import key_hasher
from toolkit.log._keys import KeyNames
from toolkit.log._record import LEVELS, RecordBuilder
from toolkit.log._settings import LogSettings
from toolkit.review import schema

GOLDEN = Path(__file__).with_name("golden.jsonl")
NOW = 1_767_603_600_123_456_789


def build(event: Event, settings: LogSettings | None = None) -> dict[str, Any]:
    builder = RecordBuilder(settings or LogSettings(app="shop"), wall_ns=lambda: NOW)
    builder._inst = "host:1"
    return builder.build(event, races=builder.races(event.fields), weight=1.0, context=True)


EVENTS = [
    Event("occ.conflict", CONFLICT),
    Event("occ.conflict", CONFLICT | {"attempt": 3, "base_etag": "absent", "incarnation": "t9", "cause": "exists"}),
    Event("occ.committed", COMMITTED),
    Event("occ.committed", {"store": "s", "op": "t", "keys": ["a-1", "b-2"], "base_etags": ["4", "absent"], "path": "intents",
                            "write_id": "a1-1", "attempt": 1}),
    Event("occ.gave_up", GAVE_UP),
    Event("occ.outcome_unknown", {"store": "s", "op": "set", "key": "k", "call_id": "0" * 16, "receipt": "r1.k", "attempt": 1}),
    Event("occ.access_denied", {"store": "s", "op": "set", "key": "k", "access": "WRITE"}),
    Event("occ.warning", {"store": "s", "message": "opened with last_write"}),
]  # fmt: skip


def test_lines_equal_the_golden_file():
    """
    Every event becomes exactly the line in the golden file: schema version 1 does not drift.
    """
    assert [build(event) for event in EVENTS] == [
        json.loads(line) for line in GOLDEN.read_text().splitlines()
    ]


def _fits(record: dict[str, Any], kind: dict[str, Any]) -> list[str]:
    types = {"integer": int, "number": (int, float), "string": str, "array": list, "boolean": bool}
    wrong = [name for name in kind["required"] if name not in record]
    for name, value in record.items():
        known = kind["properties"].get(name)
        if known is None:
            wrong.append(f"{name} is not in the schema")
            continue
        if "const" in known:
            wrong += [] if value == known["const"] else [name]
            continue
        allowed = known["type"] if isinstance(known["type"], list) else [known["type"]]
        if not any(isinstance(value, types[one]) for one in allowed):
            wrong.append(f"{name} is a {type(value).__name__}")
        if "enum" in known and value not in known["enum"]:
            wrong.append(f"{name}={value}")
    return wrong


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_lines_fit_the_schema(event: Event):
    """
    What is written is what the JSON Schema promises, field by field.
    """
    kinds = {kind["title"]: kind for kind in schema.json_schema()["oneOf"]}
    assert _fits(build(event), kinds[event.name]) == []


def test_schema_knows_the_events_of_the_core():
    """
    Names, causes, winner kinds and reasons are the same on both sides, which do not import each other.
    """
    assert list(schema.EVENTS) == list(LEVELS)
    assert (schema.CAUSES, schema.WINNER_KINDS, schema.REASONS) == (
        core.CAUSES,
        core.WINNER_KINDS,
        core.REASONS,
    )


SECRET = "hunter2-classified"


@pytest.mark.parametrize("mode", ["hash", "template"])
def test_hidden_keys_do_not_leak(mode: Any):
    """
    With hidden keys neither a key, an op id, an ETag, a receipt nor an actor id is in the line.
    """
    settings = LogSettings(keys=mode, secret=b"s" if mode == "hash" else b"", templates=("order-{id}",))
    fields = {
        "key": SECRET, "keys": [SECRET], "op_id": SECRET, "base_etag": SECRET, "base_etags": [SECRET], "seen_etag": SECRET,
        "receipt": SECRET, "actor_id": SECRET,
    }  # fmt: skip
    for name in LEVELS:
        line = json.dumps(build(Event(name, CONFLICT | fields), settings))  # type: ignore[arg-type]
        assert SECRET not in line
        assert SECRET[:7] not in line


@given(st.text(min_size=1), st.text(min_size=1))
def test_hashes_tell_keys_apart_and_need_the_secret(one: str, other: str):
    """
    Equal keys have equal hashes under one secret, others do not, and another secret gives another hash.
    """
    hashed = key_hasher(b"secret")
    assert (hashed(one) == hashed(other)) == (one == other)
    assert hashed(one) != key_hasher(b"another")(one)


def test_a_value_never_reaches_the_line():
    """
    A mapping, bytes or a nested list, which could be a stored value, is dropped, whatever its name.
    """
    record = build(
        conflict(value={"card": SECRET}, blob=SECRET.encode(), rows=[[SECRET], {"a": SECRET}], extra=None)
    )
    assert SECRET not in json.dumps(record)
    assert (record["rows"], "value" in record, "blob" in record, "extra" in record) == (
        [],
        False,
        False,
        False,
    )


def test_losers_and_winner_share_a_race():
    """
    The race is made of store, key and base version, not of who or when; hiding keys keeps it shared.
    """
    for settings in (LogSettings(), LogSettings(keys="hash", secret=b"s")):
        loser = build(conflict(), settings)["race"]
        winner = build(Event("occ.committed", COMMITTED), settings)["race"]
        elsewhere = build(conflict(store="other"), settings)["race"]
        later = build(conflict(base_etag="42"), settings)["race"]
        assert loser == winner
        assert len({loser, elsewhere, later}) == 3


def test_creates_over_two_tombstones_are_two_races():
    """
    A create that found another incarnation took part in another race.
    """
    one = build(conflict(base_etag="absent", incarnation="t1"))["race"]
    other = build(conflict(base_etag="absent", incarnation="t2"))["race"]
    assert one != other


@pytest.mark.parametrize(
    ("key", "template"),
    [
        ("order-7", "order-{id}"),
        ("user:3f2504e0-4f89-41d3-9a0c-0305e82c3301:cart", "user:{id}:cart"),
        ("session/deadbeef00", "session/{id}"),
        ("settings", "settings"),
    ],
)
def test_templates_are_guessed(key: str, template: str):
    """
    Numbers, UUIDs and long hexadecimal parts are the variable ones.
    """
    assert KeyNames(LogSettings()).template(key) == template


def test_templates_are_bounded():
    """
    After a hundred guessed templates the rest share one, so that no metric grows without bound.
    """
    names = KeyNames(LogSettings())
    found = {names.template("k" + "x" * n) for n in range(150)}
    assert len(found) == 101
    assert "_other" in found


def test_declared_templates_win():
    """
    A declared template is used before any guess, in the order given.
    """
    names = KeyNames(LogSettings(templates=("cart-{user}-{n}", "cart-{any}")))
    assert (names.template("cart-ada-1"), names.template("cart-7")) == ("cart-{user}-{n}", "cart-{any}")


def test_a_lasting_conflict_is_a_warning():
    """
    From the third lost attempt on, unless told otherwise.
    """
    levels = [build(conflict(attempt=n))["level"] for n in (1, 2, 3, 4)]
    assert levels == ["info", "info", "warning", "warning"]
    assert build(conflict(attempt=9), LogSettings(warn_attempt=0))["level"] == "info"
