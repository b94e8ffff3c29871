"""
Code on the Dapr SDK, and the three lines that stop it from losing updates.

``add_item`` is what one finds in many services: read, change, save. ``add_item_safely`` is the same function with three
changed lines, marked 1 to 3. Both serve eight threads here::

    occ run -- python examples/adopt_existing.py
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from dapr.clients import DaprClient

from toolkit import retry_on_conflict  # 1: the import

STORE = "statestore"
THREADS, ITEMS = 8, 10

AddItem = Callable[[DaprClient, str, str], None]


def add_item(client: DaprClient, cart: str, item: str) -> None:
    state = client.get_state(STORE, cart)
    items = [*state.json()["items"], item]
    client.save_state(STORE, cart, json.dumps({"items": items}))


@retry_on_conflict  # 2: run again whenever somebody else was faster
def add_item_safely(client: DaprClient, cart: str, item: str) -> None:
    state = client.get_state(STORE, cart)
    items = [*state.json()["items"], item]
    client.save_state(STORE, cart, json.dumps({"items": items}), etag=state.etag)  # 3: only if unchanged


def serve(cart: str, add: AddItem) -> list[str]:
    """
    Fill one cart from several threads and give back what is in it at the end.
    """
    with DaprClient() as client:
        # The key has to exist: a missing one has an empty ETag, and Dapr takes that for no condition at all.
        client.save_state(STORE, cart, json.dumps({"items": []}))

    def work(thread: int) -> None:
        with DaprClient() as client:
            for number in range(ITEMS):
                add(client, cart, f"item {thread}.{number}")

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))
    with DaprClient() as client:
        found: list[str] = client.get_state(STORE, cart).json()["items"]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].strip())
    parser.parse_args()
    added = THREADS * ITEMS
    for title, cart, add in (
        ("as it was", "cart-before", add_item),
        ("three lines later", "cart-after", add_item_safely),
    ):
        kept = serve(cart, add)
        print(f"{title}: {added} items added, {added - len(kept)} lost")
    return 0 if len(set(kept)) == added else 1


if __name__ == "__main__":
    sys.exit(main())
