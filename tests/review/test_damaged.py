"""
Logs that were damaged on the way: whatever happened to the bytes, every command answers and counts each line once.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.review.conftest import failed, lost, won, write
from toolkit.cli.log import app
from toolkit.review import answers, run
from toolkit.review.quick import RateCounter, TopCounter

STRANGE = (
    b"\x00", b"\xff\xfe", b"\r\n", b"\n\n\n", b'"', b"{", b"}", b"\\u0000", b"\\ud800", b"NaN", b"1e999", b"-1", b"null",
    b"9" * 400, "\u202e</script>\x1b[2J".encode(), b'"attempt":-700,', b'"sample":0,', b'"sample":-1e-300,', b'"total_s":-5,',
    b'"timestamp":"9999-12-31T23:59:59Z",', b'"timestamp":"0001-01-01T00:00:00+14:00",', b'"keys":["a","b"],',
)  # fmt: skip


def damaged(seed: int) -> bytes:
    """
    A small log with bytes cut out, put in, written twice and moved.
    """
    chance = random.Random(seed)
    lines: list[bytes] = []
    for n in range(60):
        one = chance.choice((won, lost, failed))
        more = {
            "race": f"{n % 7:016x}",
            "write_id": f"aa-{n:x}",
            "winner": f"aa-{chance.randrange(60):x}",
            "call_id": f"{n % 9:x}",
        }
        lines.append(json.dumps(one(n * chance.choice((0.01, 1.0)), **more)).encode())
    chance.shuffle(lines)
    text = bytearray(b"\n".join(lines) + b"\n")
    for _ in range(chance.randrange(1, 12)):
        at = chance.randrange(len(text))
        what = chance.randrange(3)
        if what == 0:
            del text[at : at + chance.randrange(1, 200)]
        elif what == 1:
            text[at:at] = chance.choice(STRANGE)
        else:
            text[at:at] = text[at : at + chance.randrange(1, 300)]
    # Put where a line is sure to stay whole: numbers that no writer writes.
    whole = json.dumps(chance.choice((won, lost, failed))(1)).encode()
    return bytes(text) + b"{" + chance.choice(STRANGE) + whole[1:] + b"\n"


def test_a_time_that_no_log_has_moves_nothing(tmp_path: Path):
    """
    A year far off neither stretches the axis nor loses its line.
    """
    far = [
        lost(1) | {"timestamp": stamp} for stamp in ("9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "noon")
    ]
    path = write(tmp_path / "log", [*far, lost(1), *far, lost(2)])
    found = answers.summary(run.review([path]))
    assert (found["conflicts"], found["span"]["seconds"]) == (8, 1.0)
    counter = run.pour([path], RateCounter())
    assert [row["conflicts"] for row in counter.answer()["rates"]] == [7, 1]


@pytest.mark.parametrize("seed", range(40))
def test_no_damage_stops_a_command(tmp_path: Path, seed: int):
    """
    Exit code 0 or 1, never a traceback; the whole review and the quick counters agree on how many lines there were.
    """
    path = tmp_path / "log.jsonl"
    path.write_bytes(damaged(seed))
    whole = run.review([str(path)]).intake
    for counter in (TopCounter(), RateCounter()):
        quick = run.pour([str(path)], counter).intake
        assert (
            quick.lines
            == whole.lines
            == quick.events + quick.torn + quick.foreign + quick.future + quick.oversized
        )
    command = ("summary", "top", "rate", "attempts", "pairs", "heat", "gave-up", "advise", "check", "report")[
        seed % 10
    ]
    output = ("--output", str(tmp_path / "page.html")) if command == "report" else ()
    found = CliRunner().invoke(app, [command, str(path), *output], env={"COLUMNS": "160", "NO_COLOR": "1"})
    assert found.exit_code in (0, 1), found.output
    assert found.exception is None or isinstance(found.exception, SystemExit)
    assert not set("\x00\x1b\u202e") & set(found.stdout)


@pytest.mark.parametrize(
    "absurd",
    ['"lost_s":1e308', '"lost_s":-1', '"attempt":-1', '"attempt":1e30', '"sample":0', '"sample":1e-300', '"combined":%s' % ("9" * 400)],
)  # fmt: skip
def test_numbers_no_line_can_mean_are_broken_lines(tmp_path: Path, absurd: str):
    """
    One line cannot drown the others, and no sum becomes infinite.
    """
    bad = '{"event":"occ.committed","timestamp":"2026-01-05T09:00:00Z","path":"single",' + absurd + "}"
    worse = bad.replace("committed", "conflict")
    path = write(tmp_path / "log.jsonl", [bad, worse, bad, worse, lost(1)])
    summary = answers.summary(run.review([path]))
    assert summary["lost_s"] == 0.002
    assert summary["conflicts"] in (1, 3)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


@pytest.mark.parametrize("command", ["story", "key"])
def test_fields_of_another_kind_stop_no_story(tmp_path: Path, command: str):
    """
    What the schema does not allow is left out of the telling.
    """
    odd: list[object] = ["x", 5, -1, None, [], {}, [1], True]
    names = (
        "base_etag",
        "max_attempts",
        "read_s",
        "total_s",
        "winner_kind",
        "keys",
        "receipt",
        "combined",
        "attempt",
        "reason",
    )
    lines = [
        made(1, key="k", call_id="c0ffee", **{name: value})
        for made in (lost, won, failed) for name in names for value in odd
    ]  # fmt: skip
    path = write(tmp_path / "log.jsonl", lines)
    for form in ("table", "json"):
        found = CliRunner().invoke(
            app, [command, "c0ffee" if command == "story" else "k", path, "--format", form]
        )
        assert found.exit_code == 0, found.output
