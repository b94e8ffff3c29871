"""
A worker killed in the middle, again and again, through the real engine: every account ends exact.
"""

from __future__ import annotations

import json
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor

from toolkit import StateStore
from toolkit.sidecar.resources import default_component
from workflows.library import TRANSFER
from workflows.library.runner import output_of
from workflows.starts import start_once

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


def run_with_kills(address: str, store: str, worker, client) -> dict:
    """
    Of four workers three kill themselves, each before the engine hears of its tenth commit; the fourth does the rest.
    """
    plan = TRANSFER.plan(book(f"{store}-", 8))
    with StateStore(store, address=address) as states, ThreadPoolExecutor(4) as threads:

        def start(job) -> bool:
            inp = {"at": begin, "posting": job.input}
            return start_once(client, "later", key=job.instance_id, input=inp, store=states).started

        plan.prepare(states)
        # One stays: when the only one goes, daprd 1.18 at times serves the next only after more than a minute.
        *dying, staying = [worker(address, store, commits=commits) for commits in (10, 10, 10, 0)]
        # All are started before the first one begins: Dapr leaves a start unanswered whose worker dies meanwhile.
        begin = time.time() + 12
        assert [True] * 60 == list(threads.map(start, plan.jobs))
        assert time.time() < begin
        assert [-signal.SIGKILL] * 3 == [each.ended() for each in dying]
        outputs = [output_of(client, job.instance_id, 60) for job in plan.jobs]
        # While a worker is there: without one Dapr does not know the instances.
        assert [False] * 60 == [start(job) for job in plan.jobs]
        staying.kill()
        return plan.check(states, outputs)


EXACT = {"ok": True, "postings": 60, "done": 60, "refused": 0, "total": 8000, "wrong": {}}


def test_transfers_end_exact_on_sqlite(daprd, worker, client_at):
    """
    Sixty transfers of two effects, three kills, on embedded SQLite, which has transactions of its own.
    """
    # A sidecar of its own: the shared one still knows the workers of other tests, some of which are gone.
    address = daprd(workflows=True, app_id="killed").grpc_endpoint
    assert EXACT == run_with_kills(address, "statestore", worker, client_at(address))


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
