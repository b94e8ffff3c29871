"""
Processes with many threads count visitors on one hot counter, some of them twice, and none is counted twice.

The browser sends each visit again, with the same id, when no answer came; here every third one is sent again::

    occ run -- python examples/visits.py
"""

from __future__ import annotations

import argparse
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from crowd import Crowd, start

from toolkit import Counter, StateError, StateStore

PROCESSES, THREADS, VISITS = 4, 16, 100


def visit(counter: Counter, number: int) -> None:
    visit_id = str(uuid.uuid4())
    for _ in range(1 + (number % 3 == 0)):
        counter.add(op_id=visit_id)


def serve(_process: int, store_name: str, page: str) -> int:
    """
    What one process of the web site does.
    """
    with StateStore(store_name) as store, ThreadPoolExecutor(THREADS) as pool:
        counter = Counter(store, page, shards=PROCESSES)
        start()
        return len(list(pool.map(partial(visit, counter), range(VISITS))))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].strip())
    parser.add_argument("--store", default="statestore")
    store_name = parser.parse_args().store
    page = f"visits-{uuid.uuid4()}"
    with Crowd(PROCESSES) as crowd:
        visits = sum(crowd.run(serve, store_name, page))
    with StateStore(store_name) as store:
        counted = Counter(store, page, shards=PROCESSES).value()
    print(f"{visits} visits, {counted} counted, {visits / crowd.seconds:.0f} per second")
    return 0 if counted == visits else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except StateError as error:
        sys.exit(f"visits: {error}")
