"""
``occ doctor`` as a user runs it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from toolkit import StateStore, TransactionsUnsupportedError
from toolkit.cli.doctor import doctor
from toolkit.sidecar import Sidecar, component, free_ports
from toolkit.stores.saved import load


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(doctor)
    return app


@pytest.fixture
def sidecar(daprd: Callable[..., Sidecar], monkeypatch: pytest.MonkeyPatch) -> Sidecar:
    """
    A sidecar with one store, found by the environment as an app finds it.
    """
    sidecar = daprd(components=[component("statestore", "state.in-memory")], api_token="s3cret-token")
    for name, value in sidecar.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "120")
    return sidecar


def test_a_good_store(app: typer.Typer, sidecar: Sidecar) -> None:
    """
    Exit code 0 and JSON with every fact, on a sidecar that wants a token.
    """
    result = CliRunner().invoke(app, ["--store", "statestore", "--json", "--yes"])
    assert 0 == result.exit_code, result.output
    (report,) = json.loads(result.stdout)["stores"]
    assert ("state.in-memory", "v1", 0, True) == (
        report["type"],
        report["version"],
        report["worse"],
        report["accepted"],
    )
    assert {"same"} == {finding["match"] for finding in report["findings"]}
    assert "s3cret-token" not in result.output


def test_what_the_metadata_does_not_say(app: typer.Typer, sidecar: Sidecar, tmp_path: Path) -> None:
    """
    A type given by hand is taken; an unknown one is examined, saved and told by exit code 1.
    """
    path = tmp_path / "new.json"
    result = CliRunner().invoke(
        app, ["--store", "statestore", "--type", "state.new", "--yes", "--save", str(path)]
    )
    assert 1 == result.exit_code, result.output
    assert "has no profile" in result.stdout
    assert "claims" not in result.stdout
    profile = load(path)
    assert ("state.new", "B", "truthful") == (profile.type, profile.tier, profile.native)
    _use(path)


def _use(path: Path) -> None:
    """
    Single keys work by the saved profile as it is, transactions over several with the word of the user.
    """

    def both(tx: Any) -> None:
        for key in ("a", "b"):
            tx.put(key, {"n": tx.get(key)["n"] + 1})

    with StateStore("statestore", profile=path) as store:
        for key in ("a", "b"):
            store.create(key, {"n": 1})
        with pytest.raises(TransactionsUnsupportedError, match="accept_unverified=True"):
            store.transact(both)
    with StateStore("statestore", profile=str(path), accept_unverified=True) as store:
        store.transact(both)
        assert {"a": {"n": 2}, "b": {"n": 2}} == store.get_many(["a", "b"])


@pytest.mark.parametrize(
    ("arguments", "answer", "words"),
    [
        (["--store", "nosuch", "--yes"], "", "only statestore"),
        (["--store", "statestore"], "n\n", "nothing was written"),
        (["--save", "x.json", "--yes"], "", "--store NAME"),
        (["--store", "statestore", "--save", "x.json", "--yes"], "", "has a profile already"),
        (["--address", "http://", "--yes"], "", "not a sidecar address"),
    ],
)
def test_a_users_mistake(
    app: typer.Typer, sidecar: Sidecar, arguments: list[str], answer: str, words: str
) -> None:
    """
    Exit code 2, a sentence that names the cure, no traceback, and nothing written.
    """
    result = CliRunner().invoke(app, arguments, input=answer)
    assert 2 == result.exit_code
    assert words in " ".join(result.stderr.split())
    assert "Traceback" not in result.output


def test_no_sidecar(app: typer.Typer) -> None:
    """
    The address that did not answer is named.
    """
    (port,) = free_ports(1)
    result = CliRunner().invoke(app, ["--address", f"127.0.0.1:{port}", "--yes"])
    assert 2 == result.exit_code
    assert f"127.0.0.1:{port}" in result.stderr
