"""
One sidecar with placement and scheduler for the actors of this folder, and hosts in processes of their own.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def dapr_env(workflow_sidecar, monkeypatch):
    """
    Point the SDK and the toolkit of this process at the sidecar.
    """
    from dapr.conf import settings

    for name, value in workflow_sidecar.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(settings, "DAPR_GRPC_ENDPOINT", workflow_sidecar.environment["DAPR_GRPC_ENDPOINT"])
    return workflow_sidecar


@pytest.fixture
def start_host(workflow_sidecar):
    """
    Starts ``tests/actors/live_actors.py`` in a process; it is killed with the test.
    """
    with contextlib.ExitStack() as stack:

        def start(sidecar=workflow_sidecar):
            env = {**os.environ, **sidecar.environment, "PYTHONPATH": str(ROOT)}
            process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("live_actors.py"))],
                env=env,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.callback(stop, process)
            assert "serving\n" == process.stdout.readline()
            return process

        yield start


def stop(process):
    """
    End the host and reap it.
    """
    process.kill()
    process.wait(10)
    process.stdout.close()


@pytest.fixture
def unused_address():
    """
    An address where nobody listens.
    """
    from toolkit.sidecar import free_ports

    return f"127.0.0.1:{free_ports(1)[0]}"
