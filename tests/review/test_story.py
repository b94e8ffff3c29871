"""
One operation, one key, from beginning to end.
"""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.review.conftest import failed, lost, won, write
from toolkit.review.keyview import key_view
from toolkit.review.spool import spooled
from toolkit.review.story import stories

CALL = {"call_id": "00000000000000c1", "op_id": "msg-17", "workflow_id": "order-7"}


@pytest.fixture
def log(tmp_path: Path) -> str:
    winner = {"winner": "aa-1", "winner_kind": "committed"}
    return write(tmp_path / "log.jsonl", [
        won(0.9985, writer="rival", write_id="aa-1", call_id="00000000000000f0", op="checkout"),
        lost(1.0, attempt=1, **CALL, **winner),
        lost(1.01, attempt=2, race="1" * 16, **CALL),
        won(1.02, writer="b", attempt=3, write_id="bb-1", total_s=0.024, **CALL),
        lost(2.0, key="other", call_id="00000000000000c2"),
        failed(2.1, key="other", attempt=1, call_id="00000000000000c2"),
    ])  # fmt: skip


@pytest.mark.parametrize("wanted", ["00000000000000c1", "msg-17", "order-7", "bb-1"])
def test_a_story_is_found_by_each_of_its_ids(log: str, wanted: str):
    """
    Call, caller's op, workflow and write all lead to the same story.
    """
    (story,) = stories([log], wanted)["stories"]
    assert (story["call_id"], story["result"], story["attempts"]) == ("00000000000000c1", "committed", 3)
    assert [step["result"] for step in story["steps"]] == ["lost", "lost", "committed"]
    assert (story["total_s"], story["lost_s"], story["wait_s"]) == (0.024, 0.004, 0.008)


def test_a_story_names_who_won(log: str):
    """
    Each lost attempt has the write that beat it, how long before, and by which operation; or says it is not logged.
    """
    first, second, last = stories([log], "msg-17")["stories"][0]["steps"]
    assert (first["winner"]["writer"], first["winner"]["op"], first["winner"]["basis"]) == (
        "rival",
        "checkout",
        "write",
    )
    assert first["winner"]["before_s"] == pytest.approx(0.0015)
    assert second["winner"]["writer"] is None
    assert last["winner"] is None
    assert first["offset_s"] == 0.0


def test_a_failed_story_has_its_reason(log: str):
    """
    An operation that gave up says why.
    """
    (story,) = stories([log], "00000000000000c2")["stories"]
    assert (story["result"], story["reason"]) == ("gave up", "attempts")


def test_an_unknown_id_has_no_story(log: str):
    """
    Nothing is made up; a part of an id is not an id.
    """
    assert stories([log], "nobody")["stories"] == []
    assert stories([log], "msg-1")["stories"] == []


def test_a_key_is_shown_in_order(log: str):
    """
    Figures, writers and the lines of one key, each loss with its winner.
    """
    found = key_view([log], "k")
    assert (found["won"], found["lost"], found["gave_up"]) == (2, 2, 0)
    assert [line["winner"] for line in found["lines"] if line["event"] == "occ.conflict"] == ["rival", None]
    assert [(row["writer"], row["won"], row["lost"]) for row in found["writers"]] == [
        ("b", 1, 2),
        ("rival", 1, 0),
    ]
    assert key_view([log], "k", limit=1)["won"] == 2


def test_standard_input_can_be_read_twice(log: str, monkeypatch: pytest.MonkeyPatch):
    """
    ``-`` becomes a file for commands that read it more than once, and the file is gone afterwards.
    """

    class Stdin:
        buffer = io.BytesIO(Path(log).read_bytes())

    monkeypatch.setattr("sys.stdin", Stdin)
    with spooled(["-"]) as (name,):
        assert len(stories([name], "msg-17")["stories"]) == 1
    assert not Path(name).exists()
