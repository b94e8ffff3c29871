"""
``occ run``: the command's exit code comes back, and nothing stays behind, whatever ends first.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.sidecar.conftest import OCC
from tests.sidecar.processes import command_line, left_over, using

# Says which processes there are, then lives until somebody ends it.
WAITING = "import os, sys, time; print(os.getpid(), flush=True); sys.stdin.close(); time.sleep(120)"


def started(process) -> int:
    """
    Wait until the command has said its process id.
    """
    line = process.stdout.readline()
    assert line.strip().isdigit(), process.stderr.read()
    return int(line)


def daprd_of(scratch: str) -> int:
    """
    The process id of the daprd whose files are in this directory.
    """
    found = [pid for pid in using(scratch) if "--dapr-grpc-port" in command_line(pid)]
    assert 1 == len(found)
    return found[0]


@pytest.mark.parametrize("code", [0, 1, 3, 77])
def test_the_exit_code_of_the_command_is_the_exit_code(occ, code):
    """
    Whatever the command says, the caller gets.
    """
    assert code == occ("run", "--", sys.executable, "-c", f"raise SystemExit({code})").returncode


def test_the_command_finds_a_ready_sidecar_by_its_environment(occ):
    """
    The first thing the command does is a write and a read through the API, over the default store.
    """
    program = """
import json, os, urllib.request
base = os.environ["DAPR_HTTP_ENDPOINT"] + "/v1.0/state/statestore"
body = json.dumps([{"key": "a", "value": {"n": 1}}]).encode()
urllib.request.urlopen(urllib.request.Request(base, body, {"Content-Type": "application/json"}), timeout=5)
names = ("DAPR_GRPC_ENDPOINT", "DAPR_GRPC_PORT", "DAPR_HTTP_PORT", "DAPR_HTTP_ENDPOINT", "APP_ID")
found = {name: os.environ[name] for name in names}
print(json.dumps([json.load(urllib.request.urlopen(base + "/a", timeout=5)), found]))
"""
    done = occ("run", "--app-id", "shop", "--", sys.executable, "-c", program)
    assert 0 == done.returncode, done.stderr
    value, found = json.loads(done.stdout)
    assert {"n": 1} == value
    assert f"127.0.0.1:{found['DAPR_GRPC_PORT']}" == found["DAPR_GRPC_ENDPOINT"]
    assert f"http://127.0.0.1:{found['DAPR_HTTP_PORT']}" == found["DAPR_HTTP_ENDPOINT"]
    assert "shop" == found["APP_ID"]


def test_the_options_of_the_command_are_its_own(occ):
    """
    What follows CMD is not read as an option of occ, even when it looks like one.
    """
    done = occ(
        "run", "--", sys.executable, "-c", "import sys; print(sys.argv[1:])", "--app-id", "x", "--help"
    )
    assert "['--app-id', 'x', '--help']\n" == done.stdout


def test_a_command_ended_by_a_signal_is_told_as_in_a_shell(occ):
    """
    A crash of the command is 128 + signal, and the sidecar ends with it.
    """
    program = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    assert 128 + signal.SIGSEGV == occ("run", "--", sys.executable, "-c", program).returncode


def test_an_unknown_command_is_found_out_before_anything_starts(occ):
    """
    The exit code is a shell's for a command that does not exist.
    """
    done = occ("run", "--", "no-such-command-here")
    assert (127, "occ run: no-such-command-here: command not found\n") == (done.returncode, done.stderr)


def test_a_file_that_is_not_executable_is_said_so(occ, tmp_path):
    """
    The exit code is a shell's for a file without the permission.
    """
    script = tmp_path / "script.sh"
    script.write_text("exit 0\n")
    done = occ("run", "--", str(script))
    assert 126 == done.returncode
    assert "is not an executable file" in done.stderr


def test_no_command_is_a_usage_error(occ):
    """
    Without CMD there is nothing to run.
    """
    done = occ("run")
    assert 2 == done.returncode
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_command_and_the_sidecar(occ_started, occ_environment, signum):
    """
    Ctrl-C, SIGTERM and a closed terminal reach the command; then nothing is left.
    """
    process = occ_started("run", "--", sys.executable, "-c", WAITING)
    started(process)
    process.send_signal(signum)
    process.communicate(timeout=30)
    assert 128 + signum == process.returncode
    assert set() == left_over(occ_environment["TMPDIR"])
    assert [] == list(Path(occ_environment["TMPDIR"]).iterdir())


def test_a_command_that_ignores_the_signal_may_finish(occ_started, occ_environment):
    """
    SIGTERM is passed on, not turned into a kill at once: the command's own exit code comes back.
    """
    program = """
import signal, os, threading
done = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: done.set())
print(os.getpid(), flush=True)
while not done.wait(0.05): pass
raise SystemExit(9)
"""
    process = occ_started("run", "--", sys.executable, "-c", program)
    started(process)
    process.terminate()
    process.communicate(timeout=30)
    assert 9 == process.returncode
    assert set() == left_over(occ_environment["TMPDIR"])


def test_a_killed_occ_leaves_nothing(occ_started, occ_environment):
    """
    SIGKILL gives no chance to clean up: the watchdog does, directories included.
    """
    process = occ_started("run", "--workflows", "--", sys.executable, "-c", WAITING)
    started(process)
    process.kill()
    process.communicate(timeout=30)
    assert set() == left_over(occ_environment["TMPDIR"])
    assert [] == list(Path(occ_environment["TMPDIR"]).iterdir())


def test_what_the_command_left_behind_ends_too(occ, occ_environment):
    """
    A background process of the command would keep talking to a sidecar that is gone.
    """
    program = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {WAITING!r}])"
    done = occ("run", "--", sys.executable, "-c", program)
    assert 0 == done.returncode, done.stderr
    assert set() == left_over(occ_environment["TMPDIR"])


def test_a_sidecar_that_dies_ends_the_command_and_shows_its_log(occ_started, occ_environment):
    """
    The command would only see connection errors; the reason is in the log's last lines.
    """
    process = occ_started("run", "--", sys.executable, "-c", WAITING)
    started(process)
    os.kill(daprd_of(occ_environment["TMPDIR"]), signal.SIGKILL)
    _, errors = process.communicate(timeout=30)
    assert 1 == process.returncode
    assert "the sidecar ended with code -9" in errors
    assert "dapr initialized" in errors
    assert "Traceback" not in errors
    assert set() == left_over(occ_environment["TMPDIR"])


def test_a_sidecar_that_cannot_start_shows_its_log(occ, tmp_path):
    """
    A store that refuses its settings is named by daprd; its words are passed on, the command never starts.
    """
    (tmp_path / "resources").mkdir()
    text = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: statestore}\n"
    (tmp_path / "resources" / "store.yaml").write_text(text + "spec: {type: state.nosuch, version: v1}\n")
    done = occ("run", "--resources", "resources", "--", sys.executable, "-c", "print('ran')")
    assert (1, "") == (done.returncode, done.stdout)
    assert "couldn't find state store state.nosuch/v1" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_log_can_be_kept(occ, tmp_path):
    """
    With --log the whole log of daprd outlives the run.
    """
    assert 0 == occ("run", "--log", "daprd.log", "--", sys.executable, "-c", "").returncode
    assert "dapr initialized" in (tmp_path / "daprd.log").read_text()


def test_a_token_around_occ_protects_the_sidecar(occ):
    """
    DAPR_API_TOKEN is what callers must show: with it the command is served, without it refused.
    """
    program = """
import os, urllib.request, urllib.error
url = os.environ["DAPR_HTTP_ENDPOINT"] + "/v1.0/state/statestore/a"
token = {"dapr-api-token": os.environ["DAPR_API_TOKEN"]}
print(urllib.request.urlopen(urllib.request.Request(url, headers=token), timeout=5).status)
try:
    urllib.request.urlopen(url, timeout=5)
except urllib.error.HTTPError as error:
    print(error.code)
"""
    done = occ("run", "--", sys.executable, "-c", program, DAPR_API_TOKEN="let-me-in")
    assert "204\n401\n" == done.stdout
    assert "let-me-in" not in done.stderr


def test_a_sidecar_for_an_app_is_ready_before_the_app_listens(occ):
    """
    With --app-port daprd waits for the app and the app for daprd: the sidecar's own API is ready first.
    """
    program = "import os; print(os.environ['APP_PORT'])"
    done = occ("run", "--app-port", "29999", "--", sys.executable, "-c", program)
    assert (0, "29999\n") == (done.returncode, done.stdout), done.stderr


def test_a_signal_while_the_sidecar_starts_ends_it_all(occ_environment, tmp_path):
    """
    The command is never started, and the half-started sidecar ends.
    """
    slow = tmp_path / "daprd"
    slow.write_text(
        '#!/bin/sh\ncase "$1" in --version) echo 1.18.2; exit ;; esac\necho started > started\nsleep 60\n'
    )
    slow.chmod(0o755)
    os.mkfifo(tmp_path / "started")
    command = [*OCC, "run", "--", sys.executable, "-c", "print('ran')"]
    env = {**occ_environment, "OCC_DAPRD": str(slow)}
    with subprocess.Popen(
        command, env=env, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as process:
        (tmp_path / "started").read_text()
        process.terminate()
        assert b"" == process.communicate(timeout=30)[0]
    assert 128 + signal.SIGTERM == process.returncode
    assert set() == left_over(occ_environment["TMPDIR"])


def test_ctrl_c_at_a_terminal_is_the_terminals_to_deliver(occ_environment, daprd_binaries, tmp_path):
    """
    At a terminal the command reads it, and gets Ctrl-C once; a command that goes on, as a prompt does, is let be.
    """
    program = """
import signal, sys
count = 0
def hear(*_):
    global count
    count += 1
    print(f"heard {count}", flush=True)
signal.signal(signal.SIGINT, hear)
print("listening", flush=True)
line = sys.stdin.readline()
print(f"read {line.strip()} after {count}", flush=True)
raise SystemExit(5)
"""
    ours, theirs = os.openpty()
    with os.fdopen(ours, "r+b", buffering=0) as terminal:
        process = subprocess.Popen(
            [*OCC, "run", "--", sys.executable, "-c", program],
            env=occ_environment,
            cwd=tmp_path,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no threads here
        )
        os.close(theirs)
        seen = until(terminal, b"listening")
        terminal.write(b"\x03")
        seen += until(terminal, b"heard 1")
        terminal.write(b"hello\n")
        seen += until(terminal, b"read hello after 1")
        process.wait(30)
    assert 5 == process.returncode, seen
    assert set() == left_over(occ_environment["TMPDIR"])


def until(terminal, words: bytes) -> bytes:
    """
    What the terminal shows up to these words.
    """
    seen = b""
    while words not in seen:
        seen += terminal.read(1024)
    return seen
