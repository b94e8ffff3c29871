"""
``examples/sign_up.py`` on four stores: only the component file differs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.sidecar.resources import component, write_resources

ROOT = Path(__file__).parents[2]
OCC = (sys.executable, "-c", "from toolkit.cli import main; main()")


def component_for(store, live, tmp_path):
    """
    A component of one name, ``statestore``, whatever is behind it.
    """
    if store == "in-memory":
        return component("statestore", "state.in-memory")
    if store == "sqlite":
        settings = {"connectionString": f"file:{tmp_path / 'state.db'}"}
        return component("statestore", "state.sqlite", metadata=settings)
    return live.servers[store].component("statestore")


@pytest.fixture(params=["in-memory", "sqlite", "redis", "postgresql-v2"])
def resources(request, live, live_named, tmp_path):
    """
    A directory with the one component file.
    """
    live_named(request.param)
    return write_resources([component_for(request.param, live, tmp_path)], tmp_path / "resources")


def sign_up(resources, *arguments):
    """
    Run the example beside a sidecar, as its docstring says.
    """
    command = [*OCC, "run", "--resources", str(resources), "--"]
    command += [sys.executable, str(ROOT / "examples" / "sign_up.py"), *arguments]
    env = {name: value for name, value in os.environ.items() if not name.startswith("DAPR_")}
    return subprocess.run(
        command,
        env={**env, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_sign_up_loses_without_etags_only(resources):
    """
    Eight processes: the loop without ETags loses sign-ups, the ETag loop and the toolkit keep every one.
    """
    ran = sign_up(resources, "--json")
    assert 0 == ran.returncode, ran.stderr
    results = {result["way"]: result for result in map(json.loads, ran.stdout.splitlines())}
    assert ["no-etag", "etag-loop", "toolkit"] == list(results)
    assert {96} == {result["told"] for result in results.values()}
    assert results["no-etag"]["lost"] > 0
    for way in ("etag-loop", "toolkit"):
        assert (96, 0, 0) == tuple(results[way][name] for name in ("stored", "lost", "doubled"))


def test_sign_up_says_which_store_is_missing(daprd_binaries, tmp_path):
    """
    A wrong name is a sentence with the loaded stores, not a traceback.
    """
    ran = sign_up(write_resources([component("other", "state.in-memory")], tmp_path / "resources"))
    assert 1 == ran.returncode
    assert "loaded for this app: other" in ran.stderr
    assert "Traceback" not in ran.stderr
