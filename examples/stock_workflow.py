"""
Orders against one shelf, each a Dapr workflow of two effects that are applied once: reserve, then pack.

    occ run --workflows -- python examples/stock_workflow.py --orders 12 --stock 9

All orders want the same key at the same moment. Conflicts are settled inside the activities; nothing is sold twice.
"""

from __future__ import annotations

import argparse
import json
import uuid
from typing import Any

from dapr.ext.workflow import DaprWorkflowClient, WorkflowRuntime

from toolkit import RecordedError, StateStore
from workflows import WorkflowKit, call_effect


class SoldOutError(Exception):
    """
    An outcome, not a failure.
    """


def reserve(tx, order):
    shelf = tx.get(order["shelf"])
    if shelf["left"] == 0:
        raise SoldOutError("the shelf is empty")
    tx.put(order["shelf"], {**shelf, "left": shelf["left"] - 1})


def pack(tx, order):
    shelf = tx.get(order["shelf"])
    tx.put(order["shelf"], {**shelf, "packed": shelf["packed"] + 1})


def fulfil(ctx, order):
    try:
        yield from call_effect(ctx, "reserve", input=order)
    except RecordedError:
        return "sold out"
    yield from call_effect(ctx, "pack", input=order)
    return "packed"


def sell(store: StateStore, client: Any, orders: int, stock: int) -> dict[str, Any]:
    shelf = f"shelf-{uuid.uuid4().hex[:8]}"
    store.create(shelf, {"left": stock, "packed": 0})
    ids = [client.schedule_new_workflow("fulfil", input={"shelf": shelf}) for _ in range(orders)]
    states = [client.wait_for_workflow_completion(one, timeout_in_seconds=60) for one in ids]
    answers = [json.loads(state.serialized_output) for state in states]
    return {**store.get(shelf), "sold": answers.count("packed"), "refused": answers.count("sold out")}


def main() -> None:
    options = argparse.ArgumentParser(description="Sell a shelf by workflows.")
    options.add_argument("--orders", type=int, default=12)
    options.add_argument("--stock", type=int, default=9)
    options.add_argument("--store", default="statestore")
    chosen = options.parse_args()
    kit = WorkflowKit(WorkflowRuntime(), chosen.store)
    kit.effect(name="reserve", record_errors=(SoldOutError,))(reserve)
    kit.effect(name="pack")(pack)
    kit.workflow(name="fulfil")(fulfil)
    with kit, StateStore(chosen.store) as store:
        print(json.dumps(sell(store, DaprWorkflowClient(), chosen.orders, chosen.stock)))


if __name__ == "__main__":
    main()
