"""
Eight processes move money between five accounts: with a hand-written ETag loop over two keys, and with transactions.

Money is neither made nor lost by a transfer, so the total must stay what it was, in the end (``off``) and for everybody
who looks meanwhile (``torn``: audits that saw another total)::

    occ run -- python examples/bank.py --store statestore
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from crowd import Crowd, retry_if, start, tries

from toolkit import StateError, StateStore, transactional

ACCOUNTS = tuple(f"account-{name}" for name in ("ada", "alan", "barbara", "donald", "edsger"))
OPENING = 100
TOTAL = OPENING * len(ACCOUNTS)


class Bank(Protocol):
    """
    What a way of doing it offers.
    """

    def transfer(self, src: str, dst: str, amount: int) -> object: ...

    def audit(self) -> int: ...


# ------------------------------------------------------------------------------------------------------ two ways to do it


class ByHand:
    """
    The loop that is right for one key, over two: each write is guarded by its ETag, the pair is not.
    """

    def __init__(self, client: Any, store: str) -> None:
        self.client, self.store = client, store

    def transfer(self, src: str, dst: str, amount: int) -> None:
        for _ in tries():
            try:
                one, other = self._read(src), self._read(dst)
                if one[0] < amount:
                    return
                self._write(src, one[0] - amount, one[1])
                self._write(dst, other[0] + amount, other[1])
            except Exception as error:  # noqa: BLE001 - sorted out by its status
                # When it was the second write that lost, the first one stays, and is made once more.
                retry_if(error, "ABORTED", "UNAVAILABLE")
            else:
                return

    def audit(self) -> int:
        return sum(self._read(key)[0] for key in ACCOUNTS)

    def _read(self, key: str) -> tuple[int, str]:
        state = self.client.get_state(self.store, key)
        return json.loads(state.data)["balance"], state.etag

    def _write(self, key: str, balance: int, etag: str) -> None:
        self.client.save_state(self.store, key, json.dumps({"balance": balance}), etag=etag)


@transactional
def move(tx: Any, src: str, dst: str, amount: int) -> bool:
    """
    The body of a transaction: run again on fresh data whenever somebody else came first.
    """
    one, other = tx.get(src), tx.get(dst)
    if one["balance"] < amount:
        return False
    tx.put(src, {**one, "balance": one["balance"] - amount})
    tx.put(dst, {**other, "balance": other["balance"] + amount})
    return True


class WithToolkit:
    """
    Both accounts change or neither does, and a snapshot sees them at one moment.
    """

    def __init__(self, states: StateStore) -> None:
        self.states = states

    def transfer(self, src: str, dst: str, amount: int) -> object:
        return move(self.states, src, dst, amount)

    def audit(self) -> int:
        return sum(account["balance"] for account in self.states.snapshot(ACCOUNTS).values())


@contextmanager
def by_hand(store: str) -> Iterator[Bank]:
    from dapr.clients import DaprClient

    with DaprClient() as client:
        yield ByHand(client, store)


@contextmanager
def with_toolkit(store: str) -> Iterator[Bank]:
    with StateStore(store) as states:
        yield WithToolkit(states)


WAYS: dict[str, Callable[[str], AbstractContextManager[Bank]]] = {
    "etag-loop": by_hand,
    "toolkit": with_toolkit,
}

# ------------------------------------------------------------------------------------------------------ eight processes


def trade(number: int, way: str, store: str, transfers: int) -> int:
    """
    One process: so many transfers, an audit after every fourth; how many of those saw another total.
    """
    drawn, torn = random.Random(number), 0
    with WAYS[way](store) as bank:
        start()
        for done in range(transfers):
            src, dst = drawn.sample(ACCOUNTS, 2)
            bank.transfer(src, dst, drawn.randint(1, 20))
            torn += done % 4 == 3 and bank.audit() != TOTAL
    return torn


def run(way: str, options: argparse.Namespace, crowd: Crowd) -> dict[str, Any]:
    """
    Open the accounts, let all processes trade at once, and count the money.
    """
    with StateStore(options.store) as states:
        for key in ACCOUNTS:
            states.set(key, {"balance": OPENING})
        torn = sum(crowd.run(trade, way, options.store, options.transfers))
        left = sum(account["balance"] for account in states.snapshot(ACCOUNTS).values())
    return {
        "way": way,
        "transfers": options.processes * options.transfers,
        "off": left - TOTAL,
        "torn": torn,
        "audits": options.processes * (options.transfers // 4),
        "seconds": round(crowd.seconds, 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Move money between accounts from many processes, two ways.")
    parser.add_argument("--store", default="statestore", help="the name of the state store component")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--transfers", type=int, default=12, help="transfers of each process")
    parser.add_argument("--way", choices=WAYS, action="append", help="may be repeated; by default all")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    with Crowd(options.processes) as crowd:
        for way in options.way or WAYS:
            result = run(way, options, crowd)
            text = "{way:10} {transfers} transfers: total off by {off}, {torn} of {audits} audits torn"
            print(json.dumps(result) if options.json else text.format(**result), flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except StateError as error:
        sys.exit(f"bank: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
