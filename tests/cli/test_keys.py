"""
``occ inspect``, ``strip`` and ``sweep`` on real rows behind a real sidecar, and mistakes at all of them.
"""

from __future__ import annotations

import json
from functools import partial

import pytest
from typer.testing import CliRunner

from tests.cli.keys import inspected, now, occ, on_sqlite, raw
from toolkit import StateStore
from toolkit.cli._upkeep import plan_sweep
from toolkit.cli.app import app
from toolkit.core.model import Row, Write
from toolkit.core.records import Record, dump, tx_key
from toolkit.core.stamp import Slot, Stamp
from toolkit.core.stamp import dump as dump_stamp
from toolkit.core.value import digest
from toolkit.stores import find

SQLITE = find("state.sqlite", "v1")
HOUR = 3600.0


# -- inspect -------------------------------------------------------------------------------------------------------------


def test_inspect_decodes_the_stamp(store, key):
    """
    Value, version, writes, writers and operation ids, as the store object sees them.
    """
    store.create(key, {"n": 1})
    store.update(key, lambda value: {"n": value["n"] + 1}, op_id="m-1", ttl=500)
    found = inspected(key, "--op-id", "m-1")
    stamp = found["stamp"]
    assert ("stamped", {"n": 2}, str(store.read(key).etag)) == (found["state"], found["value"], found["etag"])
    assert (1, 2, True, 0) == (stamp["format"], stamp["writes"], stamp["digest_matches"], stamp["dropped"])
    assert (1, True) == (len(stamp["op_ids"]), found["op_id"]["recorded"])
    assert 490 < stamp["expires_in_s"] <= 500
    assert inspected(key, "--op-id", "m-2")["op_id"]["recorded"] is False


def test_inspect_is_readable(store, key):
    """
    The table for people names the state and what it means, and prints the value.
    """
    store.create(key, {"name": "Ada"})
    shown = on_sqlite("inspect", key)
    assert shown.exit_code == 0
    assert "a value of the toolkit" in shown.stdout
    assert '"name": "Ada"' in shown.stdout


def test_inspect_tells_the_states_of_a_key_apart(at, store, key):
    """
    Missing, plain, foreign, tombstone, corrupt and not JSON; what cannot be read is exit code 1.
    """
    states = [inspected(key)["state"]]
    raw(at, key, put=b'{"n":1}')
    states.append(inspected(key)["state"])
    store.set(key, {"n": 2})
    stamped = raw(at, key).data
    raw(at, key, put=stamped.replace(b'"n":2', b'"n":3'))
    states.append(inspected(key)["state"])
    store.delete(key)
    states.append(inspected(key)["state"])
    raw(at, key, put=b'{"_occ":{"f":1},"n":4}')
    states.append(inspected(key)["state"])
    assert ["missing", "plain", "foreign", "tombstone", "corrupt"] == states
    assert on_sqlite("inspect", key).exit_code == 1
    assert on_sqlite("inspect", f"{key}-none").exit_code == 1


def test_inspect_shows_a_transaction_under_way(at, key):
    """
    An intent names its transaction and what the record says of it.
    """
    intent = {"id": "ab-1", "rec": tx_key("ab-1"), "kind": "put", "ts": 1.0, "lease": 2.0, "new": {"n": 2}}
    stamp = Stamp("ab-0", "absent", digest({"n": 1}), intent=intent)
    raw(at, key, put=json.dumps({"n": 1, "_occ": dump_stamp(stamp)}).encode())
    found = inspected(key)["intent"]
    assert ("ab-1", "put", "undecided") == (found["transaction"], found["kind"], found["decision"])
    raw(at, tx_key("ab-1"), put=dump(Record(tx_key("ab-1"), committed="ab-1", keys=(key,))))
    assert inspected(key)["intent"]["decision"] == "committed"
    assert inspected(tx_key("ab-1"))["state"] == "record"
    assert "transaction" in on_sqlite("inspect", key).stdout


# -- strip ---------------------------------------------------------------------------------------------------------------


def test_strip_leaves_the_plain_value(at, store, key):
    """
    Afterwards the stored bytes are the value alone, and reading it through the toolkit gives the same.
    """
    store.set(key, {"name": "Ada"})
    done = on_sqlite("strip", key, "--yes")
    assert (0, f"{key} becomes a plain value\n") == (done.exit_code, done.stdout)
    assert {"name": "Ada"} == json.loads(raw(at, key).data) == store.get(key)
    again = on_sqlite("strip", key, "--yes")
    assert (0, f"{key} has no stamp: nothing to strip\n") == (again.exit_code, again.stdout)


def test_strip_asks_first(at, store, key):
    """
    "No" changes nothing and is exit code 2.
    """
    store.set(key, {"n": 1})
    before = raw(at, key)
    refused = on_sqlite("strip", key, answer="n\n")
    assert (2, before) == (refused.exit_code, raw(at, key))
    assert "operation ids" in refused.stderr
    assert on_sqlite("strip", key, answer="y\n").exit_code == 0


def test_strip_where_nobody_can_answer(at, store, key):
    """
    In a script the command is taken at its word.
    """
    store.set(key, {"n": 1})
    assert on_sqlite("strip", key).exit_code == 0
    assert json.loads(raw(at, key).data) == {"n": 1}


def test_strip_takes_the_remains_of_a_deleted_key_along(at, store, key):
    """
    A tombstone would be a value to a plain reader: the row goes.
    """
    store.set(key, {"n": 1})
    store.delete(key)
    assert on_sqlite("strip", key, "--yes").exit_code == 0
    assert raw(at, key).missing


def test_strip_unwraps_an_envelope_and_keeps_an_expiry(at, key):
    """
    A list kept in an envelope becomes a plain list, with the store's own TTL in place of ours.
    """
    with StateStore(at.name, envelope=True) as store:
        store.set(key, [1, 2], ttl=500)
    done = on_sqlite("strip", key, "--yes")
    assert [1, 2] == json.loads(raw(at, key).data)
    assert "the store expires it in" in done.stdout


def test_strip_refuses_what_is_not_its_business(at, key):
    """
    A transaction under way, a record, a later format and a missing key stay as they are; exit code 1.
    """
    intent = {"id": "ab-3", "rec": tx_key("ab-3"), "kind": "lock", "ts": 1.0, "lease": 2.0}
    busy = Stamp("ab-2", "absent", digest({"n": 1}), intent=intent)
    later = Stamp("ab-2", "absent", digest({"n": 1}), format=2)
    for stamp, why in ((busy, "in the middle of a transaction"), (later, "format 2")):
        row = raw(at, key, put=json.dumps({"n": 1, "_occ": dump_stamp(stamp)}).encode())
        refused = on_sqlite("strip", key, "--yes")
        assert (1, row) == (refused.exit_code, raw(at, key))
        assert why in refused.stdout
    assert on_sqlite("strip", tx_key("ab-3"), "--yes").exit_code == 1
    assert on_sqlite("strip", f"{key}-none", "--yes").exit_code == 1


# -- sweep ---------------------------------------------------------------------------------------------------------------


def test_sweep_keeps_what_is_young(at, store, key):
    """
    A value, and a tombstone of this minute, stay.
    """
    store.set(key, {"n": 1})
    assert on_sqlite("sweep", key).stdout == f"{key} holds a value: nothing to sweep\n"
    store.delete(key)
    kept = on_sqlite("sweep", key, "--life", "3600")
    assert kept.exit_code == 0
    assert "holds its tombstone for another 3" in kept.stdout
    assert not raw(at, key).missing


def test_sweep_removes_what_is_old(at, key):
    """
    A tombstone last written two hours ago goes once an hour is its life, and not before.
    """
    stamp = Stamp("ab-4", "absent", digest({}), slots=(Slot("ab", 4, int(now() - 2 * HOUR)),), gone=True)
    raw(at, key, put=json.dumps({"_occ": dump_stamp(stamp)}).encode())
    assert "kept" in on_sqlite("sweep", key).stdout
    assert on_sqlite("sweep", key, "--life", "3600").stdout == f"{key} tombstone removed\n"
    assert raw(at, key).missing


@pytest.mark.parametrize(
    ("members", "stamp", "says"),
    [
        ({"n": 1}, {"expires": -2 * HOUR}, "expired value removed"),
        ({"n": 1}, {"expires": -0.5 * HOUR}, "kept"),
        ({"n": 1}, {"expires": 9.0}, "holds a value"),
        ({"n": 1}, {"digest": "0", "expires": -2 * HOUR}, "holds a value"),
        ({}, {"gone": True}, "kept"),
        ({}, {"gone": True, "intent": {"id": "a", "rec": "r", "kind": "put"}}, "in the middle"),
    ],
)
def test_sweep_decides_by_one_row(members, stamp, says):
    """
    Expired values go after their life; foreign ones, those with an intent, and a tombstone of unknown age never.
    """
    given = {"digest": digest(members), **stamp}
    if "expires" in given:
        given["expires"] += now()
    body = {**members, "_occ": dump_stamp(Stamp("ab-5", "absent", **given))}
    plan = plan_sweep("k", Row(json.dumps(body).encode(), "1"), SQLITE, life=HOUR)
    assert says in plan.says
    assert ("removed" in says) == (plan.write is not None)
    assert plan.write in (None, Write("k", None, etag="1"))


@pytest.mark.parametrize(("done", "age", "removed"), [(True, 2, True), (True, 0.5, False), (False, 2, False)])
def test_sweep_takes_finished_records_only(done, age, removed):
    """
    A record goes when every key is finished and its life is over.
    """
    record = Record(tx_key("ab-6"), committed="ab-6", keys=("k",), done=done, at=now() - age * HOUR)
    plan = plan_sweep(record.key, Row(dump(record), "1"), SQLITE, life=HOUR)
    assert removed == (plan.write is not None)


# -- mistakes ------------------------------------------------------------------------------------------------------------

COMMANDS = ("inspect", "strip", "repair", "sweep")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_mistake_is_a_sentence(at, monkeypatch, command):
    """
    No sidecar, an unknown store, no address, no key: exit code 2, the cure, and no traceback.
    """
    unknown = occ(command, "k", "--store", "nope")
    nonsense = occ(command, "k", "--address", "ftp://x")
    empty = on_sqlite(command, "")
    monkeypatch.setattr("toolkit.cli._upkeep._CONNECT", 0.2)
    nobody = occ(command, "k", "--address", "127.0.0.1:9")
    told = [unknown, nonsense, empty, nobody]
    assert [2, 2, 2, 2] == [one.exit_code for one in told]
    cures = ("loaded for this app: ", "is not a sidecar address", "the key is empty", "start it (`occ run")
    assert [True] * 4 == [cure in one.stderr for cure, one in zip(cures, told, strict=True)]
    assert all(isinstance(one.exception, SystemExit) for one in told)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command):
    """
    The help of each command shows one way to call it.
    """
    shown = partial(CliRunner().invoke, app)([command, "--help"], terminal_width=200)
    assert f"Example: occ {command}" in shown.stdout
