"""
``occ workflow checkpoints`` and ``occ workflow saga`` on a real sidecar.
"""

from __future__ import annotations

import json

import pytest

from tests.cli.keys import occ
from workflows._checkpoint_record import Request, load_record, save_record
from workflows._saga_record import Note, StepNote, take_note


@pytest.fixture
def rollup(store, key):
    """
    A checkpoint that was saved once, in a workflow's name.
    """
    asked = Request(key, "2026-10", owner="w1", at=1_790_000_000.0, version=2, data={"page": 0})
    token = store.transact(load_record, asked, op_id=f"{key}-load")["token"]
    store.transact(
        save_record, Request(key, "2026-10", "w1", 1_790_000_060.0, 2, {"page": 7}, token=token, seq=1)
    )
    return key


def checkpoints(*arguments, **options):
    return occ("workflow", "checkpoints", *arguments, "--store", "sqlite", **options)


def test_a_checkpoint_is_shown(rollup):
    """
    As lines, and as JSON; one that is not there is exit code 1 with a hint.
    """
    shown = checkpoints("show", rollup, "2026-10")
    assert 0 == shown.exit_code
    assert "2026-09-21" in shown.stdout
    assert '{"page": 7}' in shown.stdout
    record = json.loads(checkpoints("show", rollup, "2026-10", "--json").stdout)
    assert ({"page": 7}, 1, "w1", 1) == (record["data"], record["seq"], record["owner"], record["epoch"])
    missing = checkpoints("show", rollup, "2026-11")
    assert (1, "") == (missing.exit_code, missing.stdout)
    assert f"checkpoints list {rollup}" in missing.stderr


def test_checkpoints_are_listed_and_dropped(rollup):
    """
    Dropping asks first; "no" is exit code 2 and changes nothing.
    """
    assert "2026-10\n" == checkpoints("list", rollup).stdout
    refused = checkpoints("drop", rollup, "2026-10", answer="n\n")
    assert 2 == refused.exit_code
    assert "begins anew" in refused.stderr
    dropped = checkpoints("drop", rollup, "2026-10", "--yes")
    assert (0, f"{rollup} 2026-10: dropped\n") == (dropped.exit_code, dropped.stdout)
    assert {"name": rollup, "subjects": []} == json.loads(checkpoints("list", rollup, "--json").stdout)
    assert 1 == checkpoints("drop", rollup, "2026-10", "--yes").exit_code


def test_a_script_drops_a_checkpoint(rollup):
    """
    Where nobody can answer the command is taken at its word; what it says can be JSON.
    """
    dropped = checkpoints("drop", rollup, "2026-10", "--json")
    assert 0 == dropped.exit_code
    assert {"name": rollup, "subject": "2026-10", "dropped": True, "seq": 1} == json.loads(dropped.stdout)
    missing = checkpoints("drop", rollup, "2026-10", "--json")
    assert (1, "", 1) == (missing.exit_code, missing.stdout, len(missing.stderr.splitlines()))


def test_a_saga_is_shown(store, key):
    """
    Its steps as they were noted; one that is not there is exit code 1.
    """
    steps = [StepNote("take", "op-1", "give"), StepNote("ship", "op-2", pivot=True)]
    for at, step in enumerate(steps):
        store.transact(take_note, Note(key, "order", at, "running", step))
    shown = occ("workflow", "saga", "show", key, "--store", "sqlite")
    assert 0 == shown.exit_code
    assert "undone by give" in shown.stdout
    assert "no undo, pivot" in shown.stdout
    missing = occ("workflow", "saga", "show", f"{key}-none", "--store", "sqlite")
    assert (1, 1) == (missing.exit_code, len(missing.stderr.splitlines()))
    assert "no saga record" in missing.stderr


def test_an_unknown_store_is_one_line(at):
    """
    No traceback.
    """
    for group in (("checkpoints", "list", "x"), ("saga", "show", "x")):
        ran = occ("workflow", *group, "--store", "nothing")
        assert (1, 1) == (ran.exit_code, len(ran.stderr.splitlines()))
