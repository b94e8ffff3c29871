"""
``examples/fastapi_app.py`` through a real sidecar, over HTTP.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import signal
import subprocess
import sysconfig
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import redis as redis_client

from toolkit.sidecar import ServerUnavailable, component
from toolkit.sidecar.ports import free_ports
from toolkit.sidecar.resources import write_resources

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def redis_server():
    from toolkit.testing.servers import RedisServer

    try:
        with RedisServer() as server:
            yield server
    except ServerUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def client(daprd_binaries, redis_server, tmp_path_factory):
    """
    The application, started as its docstring says.
    """
    resources = tmp_path_factory.mktemp("fastapi") / "resources"
    components = [
        component("my-state-store", "state.in-memory"),
        component("my-secret-store", "secretstores.local.env", metadata={"prefix": "SECRET_"}),
        redis_server.configuration("my-config-store"),
    ]
    write_resources(components, resources)
    (port,) = free_ports(1)
    scripts = Path(sysconfig.get_path("scripts"))
    command = [str(scripts / "occ"), "run", "--resources", str(resources), "--"]
    command += [str(scripts / "uvicorn"), "--app-dir", "examples", "fastapi_app:app", "--port", str(port)]
    env = {name: value for name, value in os.environ.items() if not name.startswith("DAPR_")}
    env |= {"SECRET_HOOK_KEY": "hook-key", "OCC_DAPRD": str(daprd_binaries.daprd)}
    process = subprocess.Popen(command, cwd=ROOT, env=env)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as opened:
            _await(opened, process)
            yield opened
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def _await(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    nap = threading.Event()
    end = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < end:
        try:
            if client.get("/openapi.json").status_code == 200:
                return
        except httpx.TransportError:
            nap.wait(0.1)
    pytest.fail(f"the application did not start (exit code {process.poll()})")


def test_of_several_sign_ups_one_gets_the_name(client):
    """
    Eight requests for one name: one 201, seven 409.
    """
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda number: client.post("/users/ada", json={"name": f"Ada {number}"}).status_code, range(8)
            )
        )
    assert [201] + [409] * 7 == sorted(answers)


def test_a_version_travels_through_http(client):
    """
    If-Match takes the ETag that was given out; a stale one is 412, nonsense 400, a missing user 404.
    """
    client.post("/users/alan", json={"name": "Alan"})
    etag = client.get("/users/alan").headers["etag"]
    first = client.put("/users/alan", json={"name": "Alan T."}, headers={"If-Match": etag})
    second = client.put("/users/alan", json={"name": "Alan M."}, headers={"If-Match": etag})
    nonsense = client.put("/users/alan", json={"name": "Alan M."}, headers={"If-Match": '"?"'})
    absent = client.put("/users/alan", json={"name": "Alan M."}, headers={"If-Match": "ABSENT"})
    missing = client.get("/users/nobody")
    answers = (first, second, nonsense, absent, missing)
    assert (204, 412, 400, 400, 404) == tuple(answer.status_code for answer in answers)
    assert {"name": "Alan T.", "mail": ""} == client.get("/users/alan").json()


def test_a_repeated_request_adds_once(client):
    """
    The Idempotency-Key names the effect.
    """
    for _ in range(3):
        answer = client.post("/carts/1/items", json={"article": "tea"}, headers={"Idempotency-Key": "req-1"})
        assert 200 == answer.status_code
    assert {"items": [{"article": "tea", "amount": 1}]} == answer.json()
    client.post("/carts/1/items", json={"article": "tea"}, headers={"Idempotency-Key": "req-2"})
    assert 204 == client.delete("/carts/1").status_code


def test_the_limit_comes_from_the_configuration(client, redis_server):
    """
    A configured limit holds from the next request on.
    """
    with redis_client.Redis(port=redis_server.port, password=redis_server.password) as config:
        config.set("cart-limit", "1")
        codes = [client.post("/carts/2/items", json={"article": "tea"}).status_code for _ in range(2)]
        config.delete("cart-limit")
    assert [200, 422] == codes


def test_rights(client):
    """
    Removing a user is not among the rights of this service.
    """
    client.post("/users/grace", json={"name": "Grace"})
    answer = client.delete("/users/grace")
    assert 403 == answer.status_code
    assert "REMOVE" in answer.json()["detail"]
    assert 200 == client.get("/users/grace").status_code


def test_a_secret_is_used_and_not_shown(client):
    """
    A message with the right signature is taken, another refused.
    """
    signature = hmac.new(b"hook-key", b"hello", hashlib.sha256).hexdigest()
    right = client.post("/hooks", content=b"hello", headers={"X-Signature": signature})
    wrong = client.post("/hooks", content=b"other", headers={"X-Signature": signature})
    assert (204, 401) == (right.status_code, wrong.status_code)
    assert "hook-key" not in wrong.text


def test_a_value_is_set_and_read_back(client):
    """
    The handler after PURISTA's own sample.
    """
    assert "at" in client.post("/last-processed").json()
