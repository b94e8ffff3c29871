"""
Following growing files, by hand-fed clocks: no sleep, no thread.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from tests.review.conftest import failed, lost, won
from toolkit.cli.log import app
from toolkit.review.live import LiveView


def append(path: Path, *lines: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def test_only_what_comes_is_read(tmp_path: Path):
    """
    A file is followed from its end unless asked from the start.
    """
    path = tmp_path / "occ.jsonl"
    append(path, lost(1))
    end, start = LiveView([str(path)]), LiveView([str(path)], from_start=True)
    assert (end.poll(100.0), start.poll(100.0)) == (0, 1)
    append(path, lost(2))
    assert (end.poll(101.0), start.poll(101.0)) == (1, 1)
    end.close()
    start.close()


def test_rotation_loses_no_line(tmp_path: Path):
    """
    Lines at the end of the old file and at the beginning of the new one are both read.
    """
    path = tmp_path / "occ.jsonl"
    append(path, lost(1))
    view = LiveView([str(path)], from_start=True)
    view.poll(100.0)
    append(path, lost(2))
    path.rename(tmp_path / "occ.jsonl.1")
    append(path, lost(3), lost(4))
    assert sum(view.poll(100.0 + n) for n in range(3)) == 3
    append(path, lost(5))
    assert view.poll(104.0) == 1
    view.close()


def test_truncation_starts_again(tmp_path: Path):
    """
    A file that was cut short in place is read from its beginning.
    """
    path = tmp_path / "occ.jsonl"
    append(path, lost(1), lost(2))
    view = LiveView([str(path)], from_start=True)
    view.poll(100.0)
    path.write_text("")
    view.poll(101.0)
    append(path, lost(3))
    assert view.poll(102.0) == 1
    view.close()


def test_half_a_line_waits_for_the_rest(tmp_path: Path):
    """
    A torn last line is normal in a live file: it is read when it is whole.
    """
    path = tmp_path / "occ.jsonl"
    raw = json.dumps(lost(1)) + "\n"
    path.write_text(raw[:40])
    view = LiveView([str(path)], from_start=True)
    assert view.poll(100.0) == 0
    with path.open("a") as file:
        file.write(raw[40:])
    assert view.poll(101.0) == 1
    assert view.intake.torn == 0
    view.close()


def test_a_file_may_come_later(tmp_path: Path):
    """
    A file that is not there yet is waited for, and a new process's file is taken in.
    """
    view = LiveView([str(tmp_path / "a")])
    assert view.poll(100.0) == 0
    append(tmp_path / "a", lost(1))
    append(tmp_path / "b", won(1))
    view.follow(str(tmp_path / "b"))
    assert view.poll(101.0) == 2
    view.close()


def test_transactions_count_on_their_keys(tmp_path: Path):
    """
    A line with several keys has no single one.
    """
    path = tmp_path / "occ.jsonl"
    append(path, won(1, keys=["a", "b"]) | {"key": ""}, lost(2, keys=["b", "c"]) | {"key": ""})
    view = LiveView([str(path)], from_start=True)
    view.poll(100.0)
    now = view.snapshot(100.0)
    view.close()
    assert [(row["key"], row["lost"], row["won"]) for row in now["keys"]] == [("b", 1, 1)]
    assert now["recent"][0]["key"] == "b"


def test_nothing_in_a_line_is_markup(tmp_path: Path):
    """
    Square brackets from a log reach the screen as they are.
    """
    path = tmp_path / "occ.jsonl"
    append(path, failed(1, reason="[/bold]", op="[/b]") | {"timestamp": "[/][/][/][/][/][/][/]"}, lost(1))
    found = CliRunner().invoke(app, ["live", str(path), "--from", "start", "--for", "1ms", "--plain"])
    assert found.exit_code == 0, found.output
    assert "[/bold] after 1" in found.stdout


def test_a_time_that_is_over_at_once_still_takes_one_look(tmp_path: Path):
    """
    However short the time and however busy the machine, what is there is counted.
    """
    path = tmp_path / "occ.jsonl"
    append(path, lost(1))
    found = CliRunner().invoke(app, ["live", str(path), "--from", "start", "--for", "0s", "--plain"])
    assert found.exit_code == 0, found.output
    assert "1 conflicts" in found.stdout


def test_the_window_slides(tmp_path: Path):
    """
    What is older than the window is not counted; losers get their winners as these arrive.
    """
    path = tmp_path / "occ.jsonl"
    view = LiveView([str(path)], window=10)
    append(path, lost(1, key="old"))
    view.poll(100.0)
    append(
        path,
        lost(2, key="hot", winner="aa-1"),
        won(2, key="hot", writer="rival", write_id="aa-1"),
        failed(3, key="hot", attempt=4),
    )
    view.poll(115.0)
    now = view.snapshot(115.0)
    assert [(row["key"], row["lost"], row["won"], row["gave_up"]) for row in now["keys"]] == [
        ("hot", 1, 1, 1)
    ]
    assert (now["conflicts"], now["commits"], now["gave_up"]) == (1, 1, 1)
    assert now["recent"][-1]["winner"] == "rival"
    assert now["failures"][-1]["attempts"] == 4
    view.close()
