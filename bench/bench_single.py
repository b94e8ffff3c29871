"""
What one uncontended ``update`` costs, beside the same two raw calls and beside the Dapr SDK; both colours.

The sides take turns, a few operations each in a changing order, so that whatever disturbs the machine disturbs all of
them, and each runs as warm as a program that does just this.
Every side reads one key and writes it back with its ETag; the rows are of one size, the stamp included.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.report import Row, save
from toolkit import AsyncStateStore, StateStore
from toolkit.core.events import Event
from toolkit.log import emit, log_to
from toolkit.sidecar import Sidecar, component

VALUE = {"name": "Ada", "orders": [{"id": number, "total": 9.5 * number} for number in range(8)], "n": 0}
# Operations of one side in a row, and those before them that do not count.
TURN, WARM_UP = 20, 5
TARGETS = {"op_id": 1.05, "stamp": 200, "raw": 1.10, "sdk": 1.0, "import_ms": 150.0, "line_us": 15.0}


def bump(value: dict[str, Any]) -> dict[str, Any]:
    value["n"] += 1
    return value


# -- sync --------------------------------------------------------------------------------------------------------------


def sync_sides(store: str, sidecar: Sidecar, stack: ExitStack) -> dict[str, Callable[[], object]]:
    """
    One operation of each side, on a key of its own.
    """
    from dapr.clients import DaprClient
    from dapr.proto import api_service_v1, api_v1, common_v1

    from toolkit.dapr.address import address_of
    from toolkit.dapr.channel import sync_channel

    toolkit = stack.enter_context(StateStore(store, address=sidecar.grpc_endpoint))
    channel = stack.enter_context(sync_channel(address_of(sidecar.grpc_endpoint)))
    stub = api_service_v1.DaprStub(channel)
    client = stack.enter_context(DaprClient(sidecar.grpc_endpoint))
    for side in ("toolkit", "raw", "sdk"):
        toolkit.set(f"bench-{side}", VALUE)

    def raw() -> None:
        key = "bench-raw"
        seen = stub.GetState(api_v1.GetStateRequest(store_name=store, key=key, consistency=2), timeout=5)
        item = common_v1.StateItem(key=key, value=seen.data, etag=common_v1.Etag(value=seen.etag))
        stub.SaveState(api_v1.SaveStateRequest(store_name=store, states=[item]), timeout=5)

    def sdk() -> None:
        state = client.get_state(store, "bench-sdk")
        client.save_state(store, "bench-sdk", json.dumps(bump(json.loads(state.data))), etag=state.etag)

    return {"raw": raw, "toolkit": lambda: toolkit.update("bench-toolkit", bump), "sdk": sdk}


def op_id_sides(store: StateStore) -> dict[str, Callable[[], object]]:
    """
    ``update`` with and without an operation id; each key gets sixteen updates, so its ring never holds more ids.
    """
    plain, named = itertools.count(), itertools.count()

    def without() -> object:
        return store.update(f"bench-plain-{next(plain) // 16}", bump, default=VALUE)

    def with_id() -> object:
        number = next(named)
        return store.update(f"bench-named-{number // 16}", bump, default=VALUE, op_id=f"message-{number}")

    return {"without op_id": without, "with op_id": with_id}


def op_id_rows(address: str, rounds: int, seed: int) -> list[Row]:
    """
    What an operation id costs, and how large the stamp of a key with one writer and no ids is.
    """
    with StateStore("sqlite", address=address) as store:
        times = alternate(op_id_sides(store), rounds, seed)
        store.set("bench-stamp", VALUE)
        stored = json.loads(store._port.get("bench-stamp", strong=True, timeout=5).data)  # noqa: SLF001 - the bytes
    ratio = statistics.median(times["with op_id"]) / statistics.median(times["without op_id"])
    size = len(json.dumps(stored["_occ"], separators=(",", ":"))) + len(',"_occ":')
    return [
        Row("update with op_id / without, up to 16 ids", round(ratio, 3), "ratio", TARGETS["op_id"]),
        Row("stamp, one writer and no ids", size, "bytes", TARGETS["stamp"]),
    ]


def turns(names: list[str], rounds: int, seed: int) -> Iterator[tuple[str, bool]]:
    """
    Whose turn it is, operation by operation, and whether it counts: the first of each turn only warm up.
    """
    drawn, order = random.Random(seed), list(names)
    for _ in range(rounds // TURN):
        drawn.shuffle(order)
        for name in order:
            yield from ((name, number >= WARM_UP) for number in range(WARM_UP + TURN))


def alternate(sides: dict[str, Callable[[], object]], rounds: int, seed: int) -> dict[str, list[float]]:
    """
    Time every operation of each side.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for name, counts in turns(list(sides), rounds, seed):
        began = time.perf_counter()
        sides[name]()
        if counts:
            times[name].append(time.perf_counter() - began)
    return times


# -- async -------------------------------------------------------------------------------------------------------------


async def async_times(store: str, sidecar: Sidecar, rounds: int, seed: int) -> dict[str, list[float]]:
    """
    The same three sides on one asyncio loop.
    """
    from dapr.aio.clients import DaprClient
    from dapr.proto import api_service_v1, api_v1, common_v1

    from toolkit.dapr.address import address_of
    from toolkit.dapr.channel import aio_channel

    async with (
        AsyncStateStore(store, address=sidecar.grpc_endpoint) as toolkit,
        aio_channel(address_of(sidecar.grpc_endpoint)) as channel,
        DaprClient(sidecar.grpc_endpoint) as client,
    ):
        stub = api_service_v1.DaprStub(channel)
        for side in ("toolkit", "raw", "sdk"):
            await toolkit.set(f"bench-{side}", VALUE)

        async def raw() -> None:
            key = "bench-raw"
            request = api_v1.GetStateRequest(store_name=store, key=key, consistency=2)
            seen = await stub.GetState(request, timeout=5)
            item = common_v1.StateItem(key=key, value=seen.data, etag=common_v1.Etag(value=seen.etag))
            await stub.SaveState(api_v1.SaveStateRequest(store_name=store, states=[item]), timeout=5)

        async def sdk() -> None:
            state = await client.get_state(store, "bench-sdk")
            value = json.dumps(bump(json.loads(state.data)))
            await client.save_state(store, "bench-sdk", value, etag=state.etag)

        sides: dict[str, Callable[[], Awaitable[object]]] = {
            "raw": raw,
            "toolkit": lambda: toolkit.update("bench-toolkit", bump),
            "sdk": sdk,
        }
        return await alternate_async(sides, rounds, seed)


async def alternate_async(
    sides: dict[str, Callable[[], Awaitable[object]]], rounds: int, seed: int
) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in sides}
    for name, counts in turns(list(sides), rounds, seed):
        began = time.perf_counter()
        await sides[name]()
        if counts:
            times[name].append(time.perf_counter() - began)
    return times


# -- without a sidecar ---------------------------------------------------------------------------------------------------


def import_times(runs: int) -> list[float]:
    """
    Seconds that ``import toolkit`` takes in fresh interpreters whose files are in the page cache.
    """
    code = "import time; t = time.perf_counter(); import toolkit; print(time.perf_counter() - t)"
    command = [sys.executable, "-c", code]
    ran = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(runs + 1)]
    return [float(one.stdout) for one in ran[1:]]


def line_times(lines: int, batches: int = 20) -> list[float]:
    """
    Seconds for one conflict line, from the event to the file, as the mean of a batch.
    """
    fields = {
        "store": "statestore", "op": "take", "key": "stock-7", "call_id": "f36d78ae00000004", "attempt": 1,
        "read_s": 0.001274, "fn_s": 7.9e-05, "write_s": 0.001381, "lost_s": 0.003663, "wait_s": 0.0,
        "base_etag": "5bc20841-b6fe-4732-9826-9eb3dfb3a05f", "seen_etag": "2b3d77ee-bb2d-417f-a5ce-37222c742309",
        "cause": "etag_mismatch", "transport": "grpc", "status": "ABORTED", "max_attempts": 0,
        "winner": "5a4412c56e8b2ecc-4", "winner_kind": "committed",
    }  # fmt: skip
    times: list[float] = []
    with tempfile.TemporaryDirectory() as directory, log_to(Path(directory) / "conflicts.jsonl"):
        for _ in range(batches):
            began = time.perf_counter()
            for _ in range(lines // batches):
                emit(Event("occ.conflict", fields))
            times.append((time.perf_counter() - began) / (lines // batches))
    return times


# -- the report ----------------------------------------------------------------------------------------------------------


def ratio_rows(title: str, times: dict[str, list[float]]) -> list[Row]:
    """
    Each side's median, and the toolkit's as a ratio of the others'.
    """
    medians = {name: statistics.median(values) for name, values in times.items()}
    rows = [Row(f"{title}: {name}", round(1e6 * median, 1), "µs") for name, median in medians.items()]
    for other in ("raw", "sdk"):
        ratio = round(medians["toolkit"] / medians[other], 3)
        rows.append(Row(f"{title}: toolkit / {other}", ratio, "ratio", TARGETS[other]))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    os.environ.pop("OCC_LOG", None)
    rows: list[Row] = []
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        file = {"connectionString": f"file:{directory}/state.db"}
        components = [
            component("in-memory", "state.in-memory"),
            component("sqlite", "state.sqlite", metadata=file),
        ]
        sidecar = stack.enter_context(Sidecar(components=components))
        os.environ |= sidecar.environment
        for store in ("in-memory", "sqlite"):
            with ExitStack() as sides:
                found = alternate(sync_sides(store, sidecar, sides), options.rounds, options.seed)
            rows += ratio_rows(f"{store}, sync", found)
            found = asyncio.run(async_times(store, sidecar, options.rounds, options.seed))
            rows += ratio_rows(f"{store}, asyncio", found)
        rows += op_id_rows(sidecar.grpc_endpoint, options.rounds, options.seed)
    # The least of several runs: a busy machine only ever adds to what does not wait for anything.
    rows.append(Row("import toolkit", round(1e3 * min(import_times(9)), 1), "ms", TARGETS["import_ms"]))
    rows.append(
        Row(
            "one conflict line",
            round(1e6 * min(line_times(20_000)), 2),
            "µs",
            TARGETS["line_us"],
        )
    )
    return save("single", rows, {"rounds": options.rounds})


if __name__ == "__main__":
    sys.exit(main())
