"""
One sidecar with a state store, secrets and configuration for the tests of ``Dapr``.
"""

from __future__ import annotations

import pytest
import redis as redis_client

from tests.facade.sidecars import secret_store
from toolkit.sidecar import Sidecar, component


@pytest.fixture(scope="module")
def redis_server():
    from toolkit.sidecar import ServerUnavailable
    from toolkit.testing.servers import RedisServer

    try:
        with RedisServer() as server:
            yield server
    except ServerUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def sidecar(daprd_binaries, redis_server, tmp_path_factory):
    directory = tmp_path_factory.mktemp("facade")
    components = [
        component("states", "state.in-memory"),
        secret_store(directory),
        component("env", "secretstores.local.env", metadata={"prefix": "FACADE_"}),
        redis_server.configuration("config"),
    ]
    with Sidecar(
        binaries=daprd_binaries, components=components, app_id="facade", env={"FACADE_DB": "from-env"}
    ) as started:
        yield started


@pytest.fixture
def config(redis_server):
    with redis_client.Redis(port=redis_server.port, password=redis_server.password) as client:
        client.flushall()
        yield client
