"""
``occ demo`` through a real sidecar: what it shows, what it leaves behind, how it ends.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.review.every import check_every_command
from tests.sidecar.processes import left_over, using

ROOT = Path(__file__).parents[2]
OCC = (sys.executable, "-c", "from toolkit.cli import main; main()")


# Seconds; a busy machine takes several times as long as the demo needs on an idle one.
PATIENCE = 300
pytestmark = pytest.mark.timeout(2 * PATIENCE)


@pytest.fixture
def environment(tmp_path, daprd_binaries):
    """
    A user's shell, with temporary files in a directory of the test's own, by which its processes can be found.
    """
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith(("DAPR_", "OCC_LOG"))}
    return {**env, "PYTHONPATH": str(ROOT), "TMPDIR": str(scratch), "COLUMNS": "120", "NO_COLOR": "1"}


def start(environment, tmp_path, *arguments):
    return subprocess.Popen(
        [*OCC, "demo", *arguments],
        env=environment,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def rows_of(output):
    """
    The table: (line, way) -> (stored, lost, doubled).
    """
    found, line = {}, ""
    for text in output.splitlines():
        cells = [cell.strip() for cell in re.split("[│|]", text)[1:-1]]
        if len(cells) == 6 and cells[2].isdigit():
            line = cells[0] or line
            found[line, cells[1].split()[-2]] = tuple(int(cell) for cell in cells[2:5])
    return found


def test_the_demo_shows_what_is_lost_and_doubled(environment, tmp_path):
    """
    Without ETags sign-ups are lost on both lines; the loop by hand doubles on the bad line; the toolkit does neither.
    """
    process = start(environment, tmp_path)
    output, errors = process.communicate(timeout=PATIENCE)
    assert (0, "") == (process.returncode, errors)
    rows = rows_of(output)
    assert len(rows) == 6
    assert all(rows[line, "without"][1] > 0 for line in ("quiet line", "bad line"))
    assert (96, 0, 0) == rows["quiet line", "ETag"]
    assert rows["bad line", "ETag"][2] > 0
    assert (96, 0, 0) == rows["quiet line", "the"] == rows["bad line", "the"]
    assert "right on the quiet line" in output
    money = dict(re.findall(r"│ (a hand-written ETag loop|the toolkit) +│ +(-?\d+) +│ +\d+ of 24 │", output))
    assert "0" == money["the toolkit"] != money["a hand-written ETag loop"]
    report = tmp_path / ".occ" / "demo" / "report.html"
    assert str(report) in output
    assert "<html" in report.read_text(encoding="utf-8").lower() or report.read_text().startswith("<!doctype")
    assert [] == re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", report.read_text(encoding="utf-8"))
    check_every_command(sorted(map(str, report.parent.glob("conflicts-*.jsonl"))), tmp_path)
    assert [] == list((tmp_path / "scratch").iterdir())
    assert set() == left_over(str(tmp_path))


def test_ctrl_c_leaves_nothing_behind(environment, tmp_path):
    """
    Interrupted while the processes sign people up, it ends with 130, without a traceback, and so does all it started.
    """
    process = start(environment, tmp_path, "--people", "1000")
    wait_for_sign_ups(process, str(tmp_path))
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=PATIENCE)
    assert 130 == process.returncode
    assert "Traceback" not in output + errors
    assert "nothing is left behind" in errors
    assert [] == list((tmp_path / "scratch").iterdir())
    assert set() == left_over(str(tmp_path))


def wait_for_sign_ups(process, mark, within=60.0):
    """
    Return once the example runs; the pipe of the demo is the clock, it stays silent till the end.
    """
    for _ in range(int(within / 0.1)):
        running = [pid for pid in using(mark) if "sign_up.py" in command_line(pid)]
        if running:
            return
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.1)
    pytest.fail("the example did not start")


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


@pytest.mark.parametrize("arguments", [("--processes", "1"), ("--drop", "0.9"), ("--nonsense",)])
def test_a_mistake_is_usage(environment, tmp_path, arguments):
    """
    What makes no sense is refused before anything is started.
    """
    process = start(environment, tmp_path, *arguments)
    _, errors = process.communicate(timeout=PATIENCE)
    assert 2 == process.returncode
    assert "Traceback" not in errors


def test_an_output_that_cannot_be_written_is_said(environment, tmp_path):
    """
    The demo names the directory and the option; exit code 1.
    """
    (tmp_path / "taken").write_text("")
    process = start(environment, tmp_path, "--output", "taken/here", "--people", "1")
    _, errors = process.communicate(timeout=PATIENCE)
    assert 1 == process.returncode
    assert "--output" in errors
    assert "Traceback" not in errors


def test_a_missing_sidecar_is_said(environment, tmp_path):
    """
    A wish for a daprd that is not there is answered with its cure.
    """
    process = start({**environment, "OCC_DAPRD": str(tmp_path)}, tmp_path)
    _, errors = process.communicate(timeout=PATIENCE)
    assert 1 == process.returncode
    assert "OCC_DAPRD" in errors
    assert "Traceback" not in errors
