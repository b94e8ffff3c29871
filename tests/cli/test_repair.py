"""
``occ repair`` on real rows behind a real sidecar: corrupt stamps, transactions whose process died.
"""

from __future__ import annotations

import json
import uuid

import pytest

from tests.cli.keys import inspected, now, on_sqlite, raw
from toolkit.core.intents import Intent
from toolkit.core.records import Record, dump, load, tx_key
from toolkit.core.stamp import Stamp
from toolkit.core.stamp import dump as dump_stamp
from toolkit.core.value import digest


def test_repair_gives_a_corrupt_stamp_a_successor(at, store, key):
    """
    The value reads again, and counts as one version until somebody changes it.
    """
    raw(at, key, put=b'{"n":1,"_occ":{"f":1,"v":7}}')
    asked = on_sqlite("repair", key, answer="n\n")
    assert asked.exit_code == 2
    assert on_sqlite("repair", key, "--yes").exit_code == 0
    assert ("stamped", {"n": 1}) == (inspected(key)["state"], store.get(key))
    etag = store.read(key).etag
    store.update(key, lambda value: value)
    assert etag == store.read(key).etag


def test_repair_keeps_a_tombstone_one(at, store, key):
    """
    A deleted key does not come back as an empty object.
    """
    raw(at, key, put=b'{"_occ":{"f":1,"gone":1}}')
    assert on_sqlite("repair", key, "--yes").exit_code == 0
    assert (None, "tombstone") == (store.get(key), inspected(key)["state"])


def test_repair_has_limits(at, store, key):
    """
    A healthy key needs none, a missing one is said to be missing.
    """
    store.set(key, {"n": 1})
    before = raw(at, key)
    healthy = on_sqlite("repair", key, "--yes")
    assert (0, before) == (healthy.exit_code, raw(at, key))
    assert on_sqlite("repair", f"{key}-none", "--yes").exit_code == 1


def prepared(at, key, *, tx, lease):
    """
    Leave a key as a transaction that was about to write ``{"n": 2}`` over ``{"n": 1}`` left it.
    """
    record = tx_key(tx)
    intent = Intent(tx, record, "put", started=now() - 60, lease=now() + lease, members={"n": 2})
    stamp = Stamp("0123456789abcdef-1", "absent", digest({"n": 1}), intent=intent.dump())
    raw(at, key, put=json.dumps({"n": 1, "_occ": dump_stamp(stamp)}).encode())
    return record


@pytest.mark.parametrize("committed", [True, False])
def test_repair_finishes_a_transaction_whose_process_died(at, store, key, committed):
    """
    Its record decides; without one, after the lease, it is aborted for good. No intent is left either way.
    """
    tx = f"{uuid.uuid4().hex[:16]}-1"
    record = prepared(at, key, tx=tx, lease=-1)
    if committed:
        raw(at, record, put=dump(Record(record, committed=tx, keys=(key,), at=now())))
    done = on_sqlite("repair", key, "--yes")
    assert (0, True) == (done.exit_code, f"was in transaction {tx}" in done.stdout)
    assert {"n": 2 if committed else 1} == store.get(key)
    assert ("stamped", False) == (inspected(key)["state"], "intent" in inspected(key))
    decided = load(record, raw(at, record))
    assert (committed, committed) == (decided.decides(tx), decided.done)


def test_repair_leaves_a_living_transaction_alone(at, key):
    """
    Before the end of its lease the owner may still commit: exit code 1, and nothing is changed.
    """
    prepared(at, key, tx=f"{uuid.uuid4().hex[:16]}-1", lease=30)
    before = raw(at, key)
    refused = on_sqlite("repair", key, "--yes")
    assert (1, before) == (refused.exit_code, raw(at, key))
    assert "may still run" in refused.stdout


def test_repair_takes_keys_from_a_log(at, store, key, tmp_path):
    """
    Keys that are unclear, unreadable or held are taken, those of other stores and of plain conflicts are not.
    """
    log = tmp_path / "conflicts.jsonl"
    lines = [
        {"event": "occ.outcome_unknown", "store": "sqlite", "key": key},
        {"event": "occ.gave_up", "store": "sqlite", "key": f"{key}-b"},
        {"event": "occ.conflict", "store": "sqlite", "key": f"{key}-c", "winner_kind": "intent"},
        {"event": "occ.conflict", "store": "sqlite", "key": f"{key}-d", "winner_kind": "committed"},
        {"event": "occ.outcome_unknown", "store": "other", "key": f"{key}-e"},
    ]
    log.write_text(
        "".join(json.dumps({"v": 1, "timestamp": "2026-11-24T15:00:00Z", **line}) + "\n" for line in lines)
    )
    for suffix in ("", "-b", "-c"):
        store.set(key + suffix, {"n": 1})
    raw(at, key, put=b'{"n":1,"_occ":7}')
    done = on_sqlite("repair", "--from-log", str(log), "--yes")
    assert 0 == done.exit_code
    assert [key, f"{key}-b", f"{key}-c"] == [line.split()[0] for line in done.stdout.splitlines()]
    assert {"n": 1} == store.get(key)


def test_repair_finishes_the_transactions_of_a_log(at, store, key, tmp_path):
    """
    A process that was killed right after its commit has only said that it committed: whatever is left on the keys of a
    log's transactions is carried out, and those with nothing left, or nothing there at all, are passed over.
    """
    tx = f"{uuid.uuid4().hex[:16]}-1"
    record = prepared(at, key, tx=tx, lease=-1)
    raw(at, record, put=dump(Record(record, committed=tx, keys=(key,), at=now())))
    store.set(f"{key}-b", {"n": 1})
    keys = [key, f"{key}-b", f"{key}-none"]
    line = {"v": 1, "timestamp": "2026-11-24T15:00:00Z", "event": "occ.committed", "store": "sqlite"}
    log = tmp_path / "conflicts.jsonl"
    log.write_text(json.dumps(line | {"path": "intents", "keys": keys}) + "\n")
    done = on_sqlite("repair", "--from-log", str(log), "--yes")
    assert (0, [key]) == (done.exit_code, [line.split()[0] for line in done.stdout.splitlines()])
    assert "intent" not in inspected(key)
    again = on_sqlite("repair", "--from-log", str(log), "--yes")
    assert (0, "") == (again.exit_code, again.stdout)


def test_repair_needs_something_to_repair(at, tmp_path):
    """
    No key and no log, or a log that is not there: exit code 2. A log without trouble is fine.
    """
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    codes = [
        on_sqlite("repair", *rest).exit_code
        for rest in ((), ("--from-log", "nope.jsonl"), ("--from-log", str(empty)))
    ]
    assert [2, 2, 0] == codes
