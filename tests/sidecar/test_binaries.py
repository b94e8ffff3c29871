"""
Which daprd is used, and which is refused.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.sidecar import SidecarNotFoundError, SidecarVersionError, binaries, find, module

ROOT = Path(__file__).parents[2]


def program(path: Path, version: str = "1.18.2") -> Path:
    """
    A program that answers --version like a daprd of this version.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {version}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def places(tmp_path, monkeypatch) -> dict[str, Path]:
    """
    The five places a daprd is looked for, all empty.
    """
    monkeypatch.delenv("OCC_DAPRD", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "sidecar", checkout / "sidecar")
    monkeypatch.setattr(binaries, "checkout_directory", lambda: checkout)
    monkeypatch.setattr(module, "checkout_directory", lambda: checkout)
    return {
        "wish": tmp_path / "wish" / "daprd",
        "home": tmp_path / "home" / ".dapr" / "bin" / "daprd",
        "path": tmp_path / "path" / "daprd",
        "checkout": checkout / ".sidecar" / "bin" / "daprd",
        "cache": module.cache_directory() / "daprd",
    }


def test_the_order_of_the_places(places, monkeypatch):
    """
    $OCC_DAPRD, ~/.dapr/bin, the PATH, .sidecar/bin of the checkout, the user's cache.
    """
    found = []
    for name in ("cache", "checkout", "path", "home"):
        program(places[name])
        found.append(find().daprd)
    monkeypatch.setenv("OCC_DAPRD", str(program(places["wish"])))
    found.append(find().daprd)
    assert [places[name] for name in ("cache", "checkout", "path", "home", "wish")] == found


def test_a_wish_can_be_a_directory(places, monkeypatch):
    """
    The directory that holds daprd, placement and scheduler is as good as the file.
    """
    program(places["wish"])
    monkeypatch.setenv("OCC_DAPRD", str(places["wish"].parent))
    assert places["wish"] == find().daprd


def test_a_wish_is_never_passed_over(places, monkeypatch):
    """
    A wrong path is an error, though another daprd would be at hand.
    """
    program(places["home"])
    monkeypatch.setenv("OCC_DAPRD", str(places["wish"]))
    with pytest.raises(
        SidecarNotFoundError, match=r"\$OCC_DAPRD names .*/wish/daprd, where no executable daprd is"
    ):
        find()


@pytest.mark.parametrize("version", ["1.15.9", "2.0.0", "0.11.3"])
def test_a_wished_version_outside_the_range_is_refused(places, monkeypatch, version):
    """
    The message says what is supported and what is tested.
    """
    monkeypatch.setenv("OCC_DAPRD", str(program(places["wish"], version)))
    with pytest.raises(
        SidecarVersionError, match=rf"which is Dapr {version}; supported is >=1\.16,<2, tested 1\.18\.2"
    ):
        find()


def test_a_wished_build_without_a_version_is_trusted(places, monkeypatch):
    """
    A daprd built by hand calls itself edge; whoever names it knows it.
    """
    monkeypatch.setenv("OCC_DAPRD", str(program(places["wish"], "edge")))
    assert "edge" == find().version


@pytest.mark.parametrize("version", ["1.15.9", "2.0.0", "edge", "unknown"])
def test_elsewhere_an_unsupported_version_is_passed_over(places, version):
    """
    A better one further down the list is taken.
    """
    program(places["home"], version)
    program(places["cache"])
    assert places["cache"] == find().daprd


def test_what_was_passed_over_is_named_when_nothing_is_left(places):
    """
    Somebody with an old Dapr learns why it is not used.
    """
    program(places["home"], "1.12.0")
    broken = program(places["path"])
    broken.write_text("#!/bin/sh\necho no such option >&2\nexit 3\n")
    with pytest.raises(SidecarNotFoundError) as caught:
        find()
    assert f"{places['home']} is 1.12.0, supported is >=1.16,<2" in str(caught.value)
    assert f"{places['path']} --version ended with code 3: no such option" in str(caught.value)
    assert "make setup" in str(caught.value)


def test_binaries_of_older_sources_are_passed_over(places):
    """
    After a change of sidecar/ the old build is not the one that was meant.
    """
    program(places["checkout"])
    (places["checkout"].parent / binaries.STAMP).write_text(module.source_hash() + "\n")
    assert places["checkout"] == find().daprd
    source = places["checkout"].parents[2] / "sidecar" / "main.go"
    source.write_text(source.read_text() + "\n// changed\n")
    with pytest.raises(SidecarNotFoundError, match="was built from older sources"):
        find()


def test_the_cache_is_keyed_by_the_sources(places):
    """
    Two checkouts with the same sources share a build; a changed one has its own.
    """
    before = module.cache_directory()
    source = places["checkout"].parents[2] / "sidecar" / "go.mod"
    source.write_text(source.read_text() + "\n// changed\n")
    assert before != module.cache_directory()
    assert before.parent == module.cache_directory().parent


def test_placement_and_scheduler_are_taken_from_beside_daprd(places):
    """
    The three have to be of one version; what is missing beside daprd is looked for in the other places.
    """
    program(places["home"])
    program(places["home"].with_name("placement"))
    program(places["cache"].with_name("placement"))
    program(places["cache"].with_name("scheduler"))
    found = find()
    assert (places["home"].with_name("placement"), places["cache"].with_name("scheduler")) == (
        found.placement,
        found.scheduler,
    )
    assert (found.placement, found.scheduler) == found.require_control_plane()


def test_workflows_need_all_three(places):
    """
    What is missing is named, with the command that makes it.
    """
    program(places["home"])
    with pytest.raises(SidecarNotFoundError, match="workflows need the placement binary"):
        find().require_control_plane()


def test_workflows_need_a_newer_dapr(places):
    """
    Plain state works from 1.16, workflows from 1.18.
    """
    for name in ("daprd", "placement", "scheduler"):
        program(places["home"].with_name(name), "1.17.3")
    with pytest.raises(SidecarVersionError, match=r"workflows need Dapr 1\.18 or newer; .* is 1\.17\.3"):
        find().require_control_plane()


def test_the_pinned_version_is_the_tested_one():
    """
    What is built is what the tests ran with.
    """
    assert binaries.TESTED == module.dapr_version()


def test_the_command_says_what_it_found(daprd_binaries):
    """
    The module is a command of its own: `make setup` calls it.
    """
    command = [sys.executable, "-m", "toolkit.sidecar", "--find"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert 0 == done.returncode, done.stderr
    assert done.stdout.startswith(f"daprd {daprd_binaries.version} (")


def test_the_command_says_what_is_missing(tmp_path):
    """
    Without any daprd the exit code is 1 and the message tells the cure; no traceback.
    """
    env = {**os.environ, "OCC_DAPRD": str(tmp_path / "none")}
    command = [sys.executable, "-m", "toolkit.sidecar"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (1, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith("$OCC_DAPRD names ")
