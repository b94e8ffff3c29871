"""
The fixtures themselves: every store of the shared sidecar takes a write and gives it back.
"""

from __future__ import annotations

import http.client
import json

import pytest


def call(port: int, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_every_live_store_takes_a_write_and_gives_it_back(live_store):
    """
    A component of its own name answers for each store whose server is here.
    """
    port = live_store.sidecar.http_port
    saved = call(port, "POST", f"/v1.0/state/{live_store.name}", [{"key": "live-1", "value": {"n": 1}}])
    assert (204, b"") == saved
    status, data = call(port, "GET", f"/v1.0/state/{live_store.name}/live-1")
    assert (200, {"n": 1}) == (status, json.loads(data))


def test_the_refused_store_is_there_too(live_named):
    """
    The component of etcd loads, so that tests can see the toolkit refuse it.
    """
    store = live_named("etcd")
    assert (
        204 == call(store.sidecar.http_port, "POST", "/v1.0/state/etcd", [{"key": "live-1", "value": 1}])[0]
    )


def test_an_unknown_store_is_named(live):
    """
    A typing error in a test is no skip.
    """
    with pytest.raises(ValueError, match="mongo was not asked for"):
        live.require("mongo")
