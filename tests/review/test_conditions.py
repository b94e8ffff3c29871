"""
Conditions choose what is counted, never what is known: whoever is left out may still have won.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.review.conftest import at, failed, lost, won, write
from toolkit.cli.log import app
from toolkit.review.live import LiveView
from toolkit.review.query import Query


def occ(*args: str) -> str:
    found = CliRunner().invoke(app, list(args), env={"COLUMNS": "160", "NO_COLOR": "1"})
    assert found.exit_code in (0, 1), found.output
    return found.stdout


def answer(*args: str) -> Any:
    return json.loads(occ(*args, "--json"))


@pytest.fixture
def log(tmp_path: Path) -> str:
    """
    Two attempts of one call, each beaten by another writer in another operation, before and after 09:00:05.
    """
    lines = [
        won(4, writer="ann", op="refund", write_id="aa-1", call_id="00000000000000a1"),
        lost(6, writer="bob", op="buy", winner="aa-1", call_id="00000000000000b1"),
        won(7, writer="cleo", op="refund", race="00000000000000cc", call_id="00000000000000c1"),
        lost(8, writer="bob", op="buy", race="00000000000000cc", attempt=2, call_id="00000000000000b1"),
        failed(9, writer="bob", op="buy", attempt=2, call_id="00000000000000b1"),
    ]
    return write(tmp_path / "occ.jsonl", lines)


@pytest.mark.parametrize(
    ("conditions", "winners"),
    [
        ((), ["ann", "cleo"]),
        (("--writer", "bob"), ["ann", "cleo"]),
        (("--op", "buy"), ["ann", "cleo"]),
        (("--where", "op=buy"), ["ann", "cleo"]),
        (("--since", at(5)), ["ann", "cleo"]),
        (("--min-attempt", "2"), ["cleo"]),
        (("--until", at(7.5)), ["ann"]),
    ],
)
def test_winners_that_are_left_out_are_known(log: str, conditions: tuple[str, ...], winners: list[str]):
    """
    Nobody is called unknown, or an outside writer, since the question was about somebody else.
    """
    pairs = answer("pairs", log, *conditions)["pairs"]
    assert [(row["loser"], row["winner"], row["count"]) for row in pairs] == [
        ("bob", winner, 1) for winner in winners
    ]


def test_a_live_view_knows_them_too(log: str):
    """
    The screen names winners that it does not count.
    """
    view = LiveView([log], from_start=True, query=Query(writer="bob"))
    view.poll(100.0)
    now = view.snapshot(100.0)
    view.close()
    assert (now["conflicts"], now["commits"]) == (2, 0)
    assert [row["winner"] for row in now["recent"]] == ["ann", "cleo"]


def test_stories_and_keys_take_conditions(log: str):
    """
    ``story`` and ``key`` tell the part that is asked for, and count what they left out.
    """
    assert len(answer("story", "00000000000000b1", log)["stories"][0]["steps"]) == 2
    (story,) = answer("story", "00000000000000b1", log, "--since", at(7))["stories"]
    assert [step["winner"]["writer"] for step in story["steps"]] == ["cleo"]
    whole, part = answer("key", "k", log), answer("key", "k", log, "--writer", "bob", "--until", at(7))
    assert (whole["won"], whole["lost"], whole["gave_up"]) == (2, 2, 1)
    assert (part["won"], part["lost"], part["gave_up"]) == (0, 1, 0)
    assert (part["read"]["lines"], part["read"]["events"], part["read"]["kept"]) == (5, 5, 1)
    assert "1 file, 5 lines, 5 events, 1 asked for" in occ("key", "k", log, "--until", at(5))


def test_events_are_those_asked_for(log: str):
    """
    The root ``events`` counts what the answer rests on, ``read`` what was read.
    """
    found = answer("summary", log, "--since", at(8))
    assert (found["events"], found["read"]["events"]) == (2, 5)
    assert "no event in these files is like that" in occ("summary", log, "--key", "another")


@pytest.mark.parametrize("key", ["a[1]", "straße/7", 'say "hi"', "日本"])
@pytest.mark.parametrize("escaped", [True, False])
def test_a_key_is_found_however_it_is_written(tmp_path: Path, key: str, *, escaped: bool):
    """
    With brackets that a glob would take for its own, and with characters that a writer of JSON may spell out.
    """
    lines = [
        json.dumps(line, ensure_ascii=escaped) for line in (won(1, key=key), lost(2, key=key, op_id=key))
    ]
    path = write(tmp_path / "occ.jsonl", lines)
    assert answer("summary", path, "--key", key)["conflicts"] == 1
    assert answer("key", key, path)["lost"] == 1
    assert len(answer("story", key, path)["stories"]) == 1


def test_every_row_can_be_limited(log: str):
    """
    ``--limit`` reaches the commands whose lists are short, too.
    """
    assert len(answer("attempts", log, "--limit", "1")["attempts"]) == 1
    assert len(answer("attempts", log)["attempts"]) == 2
    assert len(answer("summary", log, "--limit", "1")["top"]) == 1


def test_a_file_counts_once(log: str, tmp_path: Path):
    """
    A directory, a file in it and a link to it name one log.
    """
    link = tmp_path / "latest.jsonl"
    link.symlink_to(log)
    assert answer("summary", log, str(tmp_path), str(link))["conflicts"] == 2


def test_the_losses_of_hashed_ids_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """
    Who knows the secret asks by the operation id itself.
    """
    from toolkit.log import op_hasher

    path = write(
        tmp_path / "occ.jsonl", [lost(1, op_id=op_hasher(b"s")("msg-1"), call_id="00000000000000b1")]
    )
    assert answer("story", "msg-1", path)["stories"] == []
    monkeypatch.setenv("OCC_LOG_SECRET", "s")
    assert len(answer("story", "msg-1", path)["stories"]) == 1
