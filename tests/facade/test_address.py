"""
All forms in which an address of the sidecar comes.
"""

from __future__ import annotations

import traceback

import pytest

from toolkit import Dapr, StateStore
from toolkit.dapr.address import Address, Token, address_of


@pytest.mark.parametrize(
    ("text", "target", "tls"),
    [
        ("host", "host:50001", False),
        ("host:4711", "host:4711", False),
        (" host:4711 ", "host:4711", False),
        ("host:4711?tls=true", "host:4711", True),
        ("host?tls=TRUE", "host:50001", True),
        ("http://host", "host:80", False),
        ("http://host:4711", "host:4711", False),
        ("https://host", "host:443", True),
        ("https://host:4711", "host:4711", True),
        ("grpcs://host:4711", "host:4711", True),
        ("dns:host:4711", "dns:host:4711", False),
        ("dns:///host:4711", "dns:///host:4711", False),
        ("unix:/run/dapr.sock", "unix:/run/dapr.sock", False),
        ("unix:///run/dapr.sock", "unix:///run/dapr.sock", False),
        ("127.0.0.1:4711", "127.0.0.1:4711", False),
        ("[::1]:4711", "[::1]:4711", False),
        ("[::1]", "[::1]:50001", False),
        ("::1", "[::1]:50001", False),
        ("http://[::1]:4711", "[::1]:4711", False),
    ],
)
def test_an_address(text: str, target: str, tls: bool) -> None:
    """
    From the argument and from DAPR_GRPC_ENDPOINT alike; the argument goes first.
    """
    assert Address(target, tls) == address_of(text, {"DAPR_GRPC_ENDPOINT": "elsewhere:1"})
    assert Address(target, tls) == address_of(None, {"DAPR_GRPC_ENDPOINT": text, "DAPR_GRPC_PORT": "1"})


@pytest.mark.parametrize(
    ("environ", "target"),
    [
        ({}, "127.0.0.1:50001"),
        ({"DAPR_GRPC_PORT": "4711"}, "127.0.0.1:4711"),
        ({"DAPR_RUNTIME_HOST": "sidecar", "DAPR_GRPC_PORT": "4711"}, "sidecar:4711"),
        ({"DAPR_RUNTIME_HOST": "::1"}, "[::1]:50001"),
        ({"DAPR_GRPC_ENDPOINT": "", "DAPR_RUNTIME_HOST": "", "DAPR_GRPC_PORT": ""}, "127.0.0.1:50001"),
    ],
)
def test_host_and_port_of_the_environment(environ: dict[str, str], target: str) -> None:
    """
    What is not said, or is empty, is loopback and Dapr's usual port.
    """
    assert Address(target) == address_of(None, environ)


@pytest.mark.parametrize(
    "text", ["http://", "ftp://host", "::::", "1:2:x", "host:port", "host:0", "host:65536", "https://host:x"]
)
def test_what_is_no_address_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Before anything is sent, with the text.
    """
    with pytest.raises(ValueError, match="not a sidecar address"):
        address_of(text)
    with pytest.raises(ValueError, match="not a sidecar address"):
        Dapr(address=text)
    monkeypatch.setenv("DAPR_GRPC_PORT", "fifty")
    with pytest.raises(ValueError, match="'fifty' is no port"):
        Dapr()


@pytest.mark.parametrize("source", [b"secret", 7, ["secret"]])
def test_a_token_of_no_kind_is_refused(source: object) -> None:
    """
    At once, and without showing it.
    """
    for make in (StateStore, lambda name, **given: Dapr(state_store=name, **given)):
        with pytest.raises(TypeError, match="api_token=") as caught:
            make("s", api_token=source)
        assert "secret" not in str(caught.value)


def test_a_function_that_fails_to_give_a_token_is_told_without_its_words() -> None:
    """
    What it says may quote what it was after.
    """

    def broken() -> str:
        raise LookupError("secret")

    with pytest.raises(ValueError, match="failed with LookupError") as caught:
        Token(broken).metadata()
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_a_token_is_not_in_the_attributes_of_what_holds_it() -> None:
    """
    Tools that print the attributes of an object print no token.
    """
    dapr = Dapr(state_store="s", api_token="planted")
    store = StateStore("s", dapr=dapr)
    assert Token("planted") == store._api_token
    assert "planted" not in repr([vars(dapr), vars(store), vars(StateStore.like(store))])
