"""
A worker killed in the middle, again and again, through the real engine: every account ends exact.
"""

from __future__ import annotations

import json
import random
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from grpc import RpcError
from tenacity import Retrying, retry_if_exception_type, retry_if_result, stop_after_delay, wait_fixed

from toolkit import StateStore
from toolkit.sidecar.resources import default_component
from workflows.library import TRANSFER
from workflows.library.runner import output_of
from workflows.starts import StartResult, StartTimeoutError, start_once

# Generous: a loaded machine, three restarts.
LONG = 90
pytestmark = pytest.mark.timeout(600)

ACCOUNTS = [f"a{number}" for number in range(8)]


def book(prefix: str, seed: int) -> str:
    """
    Sixty postings between eight accounts, all of which can be carried out.
    """
    chance = random.Random(seed)
    names = [prefix + account for account in ACCOUNTS]
    postings = []
    for number in range(60):
        src, dst = chance.sample(names, 2)
        postings.append({"id": f"{prefix}{number}", "src": src, "dst": dst, "amount": chance.randint(1, 9)})
    return json.dumps({"accounts": dict.fromkeys(names, 1000), "postings": postings})


def start(client, job, states) -> bool:
    """
    Start a posting once, however often the worker dies meanwhile.
    """
    # Dapr fails a start whose worker is not there, and fails or forgets one whose worker dies under it: then nobody knows
    # whether it runs, until its claim is old.
    again = Retrying(
        retry=retry_if_exception_type((RpcError, StartTimeoutError)) | retry_if_result(unknown),
        stop=stop_after_delay(2 * LONG),
        wait=wait_fixed(0.2),
        reraise=True,
    )
    found = again(start_once, client, job.workflow, key=job.instance_id, input=job.input, store=states)
    return found.started


def unknown(found: StartResult) -> bool:
    return not found.started and found.state is None


def run_with_kills(address: str, store: str, worker, client) -> dict:
    """
    The only worker kills itself three times, each before the engine hears of its tenth commit; its successor goes on.
    """
    plan = TRANSFER.plan(book(f"{store}-", 8))
    with StateStore(store, address=address) as states, ThreadPoolExecutor(60) as threads:
        plan.prepare(states)
        serving = worker(address, store, commits=10)
        starts = [threads.submit(start, client, job, states) for job in plan.jobs]
        for commits in (10, 10, 0):
            assert -signal.SIGKILL == serving.ended()
            serving = worker(address, store, commits=commits)
        for started in starts:
            started.result(2 * LONG)
        outputs = [output_of(client, job.instance_id, LONG) for job in plan.jobs]
        # While a worker is there: without one Dapr does not know the instances.
        assert [False] * 60 == [start(client, job, states) for job in plan.jobs]
        serving.kill()
        return plan.check(states, outputs)


EXACT = {"ok": True, "postings": 60, "done": 60, "refused": 0, "total": 8000, "wrong": {}}


def test_transfers_end_exact_on_sqlite(daprd, worker, client_at):
    """
    Sixty transfers of two effects, three kills, on embedded SQLite, which has transactions of its own.
    """
    # A sidecar of its own: the shared one still knows the workers of other tests, some of which are gone.
    address = daprd(workflows=True, app_id="killed").grpc_endpoint
    assert EXACT == run_with_kills(address, "statestore", worker, client_at(address))


@pytest.mark.slow
def test_transfers_end_exact_on_redis(daprd, server_named, tmp_path, worker, client_at):
    """
    The same with the accounts on Redis, which has none.
    """
    redis = server_named("redis")
    sidecar = daprd(
        components=[default_component(tmp_path), redis.component("redis")], workflows=True, app_id="killed"
    )
    address = sidecar.grpc_endpoint
    assert EXACT == run_with_kills(address, "redis", worker, client_at(address))
