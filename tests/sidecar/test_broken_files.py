"""
Component files are checked before a sidecar reads them: file and line, exit code 2, no traceback.
"""

from __future__ import annotations

import sys


def refuse(occ, tmp_path, text):
    directory = tmp_path / "resources"
    directory.mkdir()
    (directory / "store.yaml").write_text(text)
    done = occ("run", "--resources", "resources", "--", sys.executable, "-c", "print('ran')")
    assert (2, "") == (done.returncode, done.stdout)
    assert "Traceback" not in done.stderr
    return done.stderr


def test_yaml_that_does_not_parse(occ, tmp_path):
    """
    The line is the one where the parser stumbled.
    """
    said = refuse(
        occ, tmp_path, "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: [name: x\nspec: {}\n"
    )
    assert said.startswith("occ run: resources/store.yaml:4: is not valid YAML")


def test_a_component_without_a_type(occ, tmp_path):
    """
    The second document of a file is told by its own line.
    """
    good = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: a}\nspec: {type: state.in-memory, version: v1}\n"
    bad = "---\napiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: b}\nspec: {version: v1}\n"
    said = refuse(occ, tmp_path, good + bad)
    assert said.startswith("occ run: resources/store.yaml:6: has no spec.type")


def test_no_component_at_all(occ, tmp_path):
    """
    An empty file is not a store.
    """
    assert "holds no Dapr component" in refuse(occ, tmp_path, "# nothing yet\n")


def test_two_components_of_one_name(occ, tmp_path):
    """
    Dapr would keep one of them and say nothing.
    """
    one = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: a}\nspec: {type: state.in-memory, version: v1}\n"
    assert "names its component 'a'" in refuse(occ, tmp_path, f"{one}---\n{one}")


def test_a_directory_that_is_not_there(occ):
    """
    Without the check daprd would start without any store.
    """
    done = occ("run", "--resources", "nowhere", "--", "true")
    assert (2, "occ run: nowhere: there is no such file or directory\n") == (done.returncode, done.stderr)
