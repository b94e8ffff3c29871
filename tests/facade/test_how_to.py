"""
The Python of the two how-to pages runs as it is written, against a real sidecar.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from toolkit.sidecar import ServerUnavailable, Sidecar, component

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "how-to"


@pytest.fixture(scope="module")
def sidecar(daprd_binaries):
    from toolkit.testing.servers import RedisServer

    try:
        with RedisServer() as redis:
            components = [
                component("statestore", "state.in-memory"),
                component("my-state-store", "state.in-memory"),
                component("my-secret-store", "secretstores.local.env", metadata={"prefix": "SECRET_"}),
                redis.configuration("my-config-store"),
            ]
            env = {"SECRET_API_KEY": "42"}
            with Sidecar(binaries=daprd_binaries, components=components, env=env) as started:
                yield started
    except ServerUnavailable as error:
        pytest.skip(str(error))


def run_page(page: str, sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """
    Run the page's Python from top to bottom, each block on the names of those before it.
    """
    for name, value in sidecar.environment.items():
        monkeypatch.setenv(name, value)
    text = (PAGES / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks
    names: dict[str, Any] = {"__name__": page}
    for block in blocks:
        exec(compile(block, page, "exec", dont_inherit=True), names)  # noqa: S102  the text of our own page
    return names


def test_from_purista(sidecar, monkeypatch, capsys):
    """
    The parity page: states, rights, secrets, configuration, a watch that is cancelled, an application.
    """
    names = run_page("from-purista.md", sidecar, monkeypatch)
    out = capsys.readouterr().out.splitlines()
    assert ["{'at': '2026-01-01T00:00:00Z'}", "{'users': ['ada']}"] == out[:2]
    assert "key 'user-1': set needs WRITE" in out[2]
    assert ({"API_KEY": "42"}, 20) == (names["parts"], names["limit"])
    assert "/last-processed/{at}" in [getattr(route, "path", "") for route in names["app"].routes]


def test_adopt(sidecar, monkeypatch, capsys):
    """
    The page on adopting: the SDK function adds an item, a repeated update adds once, a class reads what is there.
    """
    from dapr.clients import DaprClient
    from dapr.conf import settings

    monkeypatch.setattr(settings, "DAPR_HTTP_ENDPOINT", sidecar.http_endpoint)
    names = run_page("adopt.md", sidecar, monkeypatch)
    assert ["{'items': ['tea']}", "Cart(items=['tea', 'milk'])"] == capsys.readouterr().out.splitlines()
    with DaprClient(sidecar.grpc_endpoint) as client:
        client.save_state("statestore", "cart-2", json.dumps({"items": []}))
        names["add_item"](client, "cart-2", "tea")
        assert {"items": ["tea"]} == client.get_state("statestore", "cart-2").json()
