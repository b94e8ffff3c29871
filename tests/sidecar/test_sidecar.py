"""
The ``Sidecar`` class: ready when entered, its faults, and nothing left behind.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.sidecar.processes import left_over, wait_for_end
from toolkit.sidecar import ControlPlane, ProcessStartError, Sidecar, component, sidecar

ROOT = Path(__file__).parents[2]


def state(port: int, path: str, body: object = None, *, token: str | None = None, timeout: float = 10.0):
    """
    A call to the state API: the status and the decoded answer.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    headers = {"Content-Type": "application/json", **({"dapr-api-token": token} if token else {})}
    try:
        data = None if body is None else json.dumps(body)
        connection.request("GET" if body is None else "POST", f"/v1.0/state/{path}", data, headers)
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text and answer.status < 400 else None
    finally:
        connection.close()


def test_a_sidecar_without_resources_has_an_embedded_store(daprd):
    """
    The default is SQLite in the sidecar's own directory, under the name statestore.
    """
    running = daprd()
    assert (204, None) == state(running.http_port, "statestore", [{"key": "a", "value": [1]}])
    assert (200, [1]) == state(running.http_port, "statestore/a")


def test_a_killed_sidecar_comes_back_with_its_data(daprd):
    """
    A restart keeps ports and data directory; in between nobody answers.
    """
    running = daprd()
    before = running.environment
    state(running.http_port, "statestore", [{"key": "a", "value": 1}])
    running.kill()
    assert -signal.SIGKILL == running.returncode()
    assert not running.ready()
    with pytest.raises(ConnectionRefusedError):
        state(running.http_port, "statestore/a")
    running.restart()
    assert before == running.environment
    assert (200, 1) == state(running.http_port, "statestore/a")


def test_a_frozen_sidecar_keeps_its_connections_and_says_nothing(daprd):
    """
    A frozen daprd accepts and does not answer, and goes on where it stopped.
    """
    running = daprd()
    running.freeze()
    with pytest.raises(TimeoutError):
        state(running.http_port, "statestore/a", timeout=0.3)
    running.resume()
    assert (204, None) == state(running.http_port, "statestore/a")


def test_a_frozen_sidecar_can_be_stopped(daprd_binaries):
    """
    Leaving does not wait for a process that cannot hear.
    """
    with Sidecar(binaries=daprd_binaries) as running:
        pid, directory = running.pid, running.directory
        running.freeze()
    assert not directory.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_failed_start_shows_the_log_and_leaves_nothing(daprd_binaries, tmp_path):
    """
    A component that cannot be made is daprd's to name; its words are in the error.
    """
    # The component makes missing folders, so the way to the file leads through a file.
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "state.db"
    broken = component("statestore", "state.sqlite", metadata={"connectionString": f"file:{path}"})
    with pytest.raises(ProcessStartError) as caught:
        Sidecar(components=[broken], binaries=daprd_binaries, app_id="broken-start").__enter__()
    assert "daprd ended with code 1" in str(caught.value)
    assert "unable to open database file" in caught.value.log_tail
    assert set() == left_over("broken-start")
    assert not caught.value.log_path.parent.exists()


def test_a_taken_port_is_not_the_end(daprd_binaries, monkeypatch):
    """
    Another process can take a port between the choice and the start: the sidecar tries others.
    """
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        choices = [(taken.getsockname()[1], *sidecar.free_ports(3)), sidecar.free_ports(4)]
        expected = choices[1][0]
        monkeypatch.setattr(sidecar, "free_ports", lambda _count: choices.pop(0))
        with Sidecar(binaries=daprd_binaries) as running:
            assert expected == running.grpc_port
            assert (204, None) == state(running.http_port, "statestore/a")


def test_only_loopback_is_listened_on(daprd):
    """
    A development sidecar is not to be reached from the network.
    """
    running = daprd()
    listening = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/{running.pid}/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and _inode_of(running.pid, fields[9]):
                listening.add(fields[1].split(":")[0])
    assert {"0100007F"} == listening


def _inode_of(pid: int, inode: str) -> bool:
    links = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            links.add(str(entry.readlink()))
    return f"socket:[{inode}]" in links


def test_a_token_is_demanded(daprd):
    """
    A call without the token is refused; the readiness check shows it.
    """
    running = daprd(api_token="let-me-in")
    assert 401 == state(running.http_port, "statestore/a")[0]
    assert (204, None) == state(running.http_port, "statestore/a", token="let-me-in")
    assert "let-me-in" not in running.log_path.read_text()


def test_a_sidecar_outlives_the_thread_that_started_it(daprd_binaries):
    """
    A worker thread may start it and end: what is tied to the process is not tied to the thread.
    """
    running = Sidecar(binaries=daprd_binaries)
    thread = threading.Thread(target=running.__enter__)
    thread.start()
    thread.join()
    try:
        assert (204, None) == state(running.http_port, "statestore/a")
        assert running.returncode() is None
    finally:
        running.stop()


def test_a_killed_owner_takes_its_sidecar_along(daprd_binaries, tmp_path):
    """
    The watchdog ends daprd and removes its directory when the owner gets SIGKILL, even with a forked child alive.
    """
    program = """
import os, sys, time
from toolkit.sidecar import Sidecar
sidecar = Sidecar(app_id="orphan")
sidecar.__enter__()
child = os.fork()
if child == 0:
    os.close(1)
    time.sleep(60)
print(child, sidecar.pid, sidecar.directory, flush=True)
time.sleep(60)
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    owner = subprocess.Popen([sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, text=True)
    child, pid, directory = owner.stdout.readline().split()
    owner.kill()
    owner.communicate()
    try:
        wait_for_end(int(pid), time.monotonic() + 15)
        assert set() == left_over(directory)
    finally:
        os.kill(int(child), signal.SIGKILL)
    assert set() == left_over(str(tmp_path))
    assert not Path(directory).exists()


def test_two_sidecars_share_a_control_plane(daprd_binaries):
    """
    Replicas of one app need the same placement and scheduler.
    """
    with ControlPlane(binaries=daprd_binaries) as plane:
        options = {"binaries": daprd_binaries, "control_plane": plane, "app_id": "replica"}
        with Sidecar(**options) as one, Sidecar(**options) as two:
            assert one.ready()
            assert two.ready()
            for running in (one, two):
                assert "Connected to placement" in running.log_path.read_text()


def test_misuse_is_told(daprd_binaries):
    """
    A sidecar that does not run says so instead of failing somewhere inside.
    """
    running = Sidecar(binaries=daprd_binaries)
    for use in (running.kill, running.freeze, running.restart, running.returncode, running.log_tail):
        with pytest.raises(RuntimeError, match="enter it first"):
            use()
    with running, pytest.raises(RuntimeError, match="runs already"):
        running.__enter__()
    with running:
        assert running.ready()
