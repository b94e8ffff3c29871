"""
A token planted in every place appears in no log, error, repr or report; a token that cannot be sent is refused unseen.
"""

from __future__ import annotations

import io
import logging
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog
from typer.testing import CliRunner

from toolkit import Access, AsyncDapr, AsyncStateStore, Dapr, StateStore, log_to
from toolkit.dapr.address import Token
from toolkit.sidecar import component

PLANTED = "planted-7f3e9a"
PLACES = pytest.mark.parametrize("place", ["argument", "environment", "file", "callable"])


class Watch:
    """
    Everything that was shown to anybody.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.texts: list[str] = []

    def show(self, *things: object) -> None:
        for thing in things:
            self.texts += [repr(thing), str(thing), f"{thing}"]

    def failing(self, call: Callable[[], Any]) -> None:
        """
        Make a call that has to fail, and show its error in every way an error is shown.
        """
        try:
            call()
        except Exception as error:
            self.error(error)
        else:
            pytest.fail("the call was to fail")

    def error(self, error: BaseException) -> None:
        stream = io.StringIO()
        traceback.print_exception(error, file=stream)
        self.texts.append(stream.getvalue())
        seen: BaseException | None = error
        while seen is not None:
            self.show(seen, seen.args, vars(seen))
            seen = seen.__cause__ or seen.__context__
        self.texts.append(pickle.dumps(str(error)).decode("latin-1"))

    def found(self) -> list[str]:
        files = [path.read_text(errors="replace") for path in self.directory.rglob("*") if path.is_file()]
        return [text for text in self.texts + files if PLANTED in text]


def source_of(place: str, token: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    if place == "environment":
        monkeypatch.setenv("DAPR_API_TOKEN", token)
        return None
    if place == "file":
        # Outside of what is searched: the token is allowed in its own file.
        (directory / "token").write_text(f"{token}\n", encoding="utf-8")
        return directory / "token"
    return token if place == "argument" else lambda: token


@pytest.fixture
def shown(tmp_path):
    directory = tmp_path / "shown"
    directory.mkdir()
    return Watch(directory)


@pytest.fixture
def listening(shown, monkeypatch, caplog):
    """
    The conflict log in a file, structlog configured, and every logger open from debug on.
    """
    monkeypatch.setenv("GRPC_VERBOSITY", "DEBUG")
    stream = io.StringIO()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(stream))
    caplog.set_level(logging.DEBUG)
    with log_to(shown.directory / "occ.jsonl"):
        yield
    structlog.reset_defaults()
    shown.texts += [stream.getvalue(), caplog.text]


@PLACES
def test_a_right_token_is_shown_nowhere(daprd, shown, listening, tmp_path, monkeypatch, capfd, place):
    """
    Through a real sidecar that asks for the token: objects, refused calls, conflicts, the log and its report.
    """
    source = source_of(place, PLANTED, tmp_path, monkeypatch)
    sidecar = daprd(components=[component("states", "state.in-memory")], api_token=PLANTED)
    where = {"address": sidecar.grpc_endpoint, "api_token": source}
    dapr = Dapr(**where, state_store="states")
    shown.show(dapr, Token(source))
    with dapr:
        shown.show(dapr, dapr.states, dapr._link, dapr._states._port)
        shown.failing(lambda: dapr.states.set("k", {}))
        shown.failing(lambda: dapr.secrets)
        store = dapr.state("states", access=Access.ALL)
        store.create("k", {"n": 1})
        shown.failing(lambda: store.create("k", {"n": 1}))
        shown.failing(lambda: store.compare_and_set("k", {"n": 2}, type(store.read("k").etag)("stale")))
        shown.failing(lambda: store.update("missing", lambda value: value))
        shown.show(store.read("k"), store.typed(dict[str, int]), list(dapr._held))
    shown.failing(lambda: dapr.states)
    _async_round(where, shown)
    from toolkit.cli.app import app

    report = CliRunner().invoke(app, ["log", "summary", str(shown.directory / "occ.jsonl"), "--json"])
    shown.show(report.output)
    assert 0 == report.exit_code
    shown.texts += capfd.readouterr()
    assert "occ.committed" in (shown.directory / "occ.jsonl").read_text()
    assert [] == shown.found()


def _async_round(where: dict[str, Any], shown: Watch) -> None:
    async def call() -> None:
        async with AsyncDapr(**where, state_store="states", access=Access.ALL) as dapr:
            shown.show(dapr, dapr.states)
            await dapr.states.update("k", lambda value: value)
        async with AsyncStateStore("states", **where) as store:
            shown.show(store)

    anyio.run(call)


@PLACES
def test_a_wrong_token_is_shown_nowhere(daprd, shown, listening, tmp_path, monkeypatch, capfd, place):
    """
    The refusal of a sidecar, in both colours, says that the token is wrong and not what it is.
    """
    source = source_of(place, PLANTED, tmp_path, monkeypatch)
    sidecar = daprd(components=[component("states", "state.in-memory")], api_token="another")
    where = {"address": sidecar.grpc_endpoint, "api_token": source}
    shown.failing(lambda: StateStore("states", **where).__enter__())
    shown.failing(lambda: Dapr(**where, secret_store="secrets").__enter__())
    shown.failing(lambda: anyio.run(AsyncStateStore("states", **where).__aenter__))
    shown.failing(lambda: anyio.run(AsyncDapr(**where, state_store="states").__aenter__, backend="trio"))
    shown.texts += capfd.readouterr()
    assert any("API token" in text for text in shown.texts)
    assert [] == shown.found()


@PLACES
@pytest.mark.parametrize("odd", [f"{PLANTED}\x00", f"{PLANTED}ä", f"{PLANTED}\n{PLANTED}"])
def test_a_token_that_cannot_be_sent_is_shown_nowhere(shown, tmp_path, monkeypatch, capfd, place, odd):
    """
    A token with characters no header carries is refused in our words: gRPC would quote it.
    """
    if place == "environment":
        odd = odd.replace("\x00", "\x7f")  # an environment holds no NUL
    source = source_of(place, odd, tmp_path, monkeypatch)
    where = {"address": "127.0.0.1:1", "api_token": source, "startup_timeout": 0.1}
    shown.failing(lambda: StateStore("states", **where).__enter__())
    shown.failing(lambda: Dapr(**where, secret_store="s").__enter__())
    shown.failing(lambda: anyio.run(AsyncStateStore("states", **where).__aenter__))
    shown.texts += capfd.readouterr()
    assert any("no header can carry" in text for text in shown.texts)
    assert [] == shown.found()


def test_a_line_end_is_cut_off(tmp_path, monkeypatch):
    """
    What files and variables add to a token is not sent.
    """
    (tmp_path / "token").write_text("abc\r\n", encoding="utf-8")
    monkeypatch.setenv("DAPR_API_TOKEN", "abc\n")
    for source in ("abc\n", tmp_path / "token", lambda: " abc\n", None):
        assert (("dapr-api-token", "abc"),) == Token(source).metadata()


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        (Path("/nowhere/token"), ValueError, "/nowhere/token cannot be read"),
        (lambda: None, TypeError, "has to be a text, and came as NoneType"),
        (PLANTED.encode, TypeError, "came as bytes"),
    ],
)
def test_a_source_that_gives_no_token_is_named(source, kind, words):
    """
    The place is named, never what was found there.
    """
    with pytest.raises(kind, match=words) as caught:
        Token(source).metadata()
    assert PLANTED not in str(caught.value)


def test_a_token_file_that_is_no_text(tmp_path):
    """
    A binary file is named, its bytes are not.
    """
    path = tmp_path / "token"
    path.write_bytes(b"\xff" + PLANTED.encode())
    with pytest.raises(ValueError, match="is no text") as caught:
        Token(path).metadata()
    assert PLANTED not in "".join(traceback.format_exception(caught.value))


def test_no_token_at_all(monkeypatch):
    """
    Without a token no header is sent.
    """
    monkeypatch.delenv("DAPR_API_TOKEN", raising=False)
    assert () == Token().metadata()
    assert "" == str(Token())
