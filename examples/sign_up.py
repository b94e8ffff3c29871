"""
Eight processes sign people up under one key: without ETags, with a hand-written ETag loop, and with the toolkit.

The value is ``{"users": [...]}``. Nobody may get a name that is taken, so every sign-up reads the list, checks it, and
writes a longer one; whoever finds a name taken asks for the next one (``ada``, ``ada-2``, …). At the end the names that
people were told are compared with the names that are stored:

- lost: somebody was told "welcome" and is not in the list, or shares a name with somebody else;
- doubled: the list holds a name that nobody was told, because one person was signed up twice.

Run it against any store by swapping the component file::

    occ run --resources DIRECTORY -- python examples/sign_up.py --store statestore
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

PEOPLE = (
    "ada", "alan", "barbara", "donald", "edsger", "frances", "grace", "john", "leslie", "margaret", "niklaus", "tony",
)  # fmt: skip

SignUp = Callable[[str], None]


class NameTakenError(ValueError):
    """
    Somebody else has this name.
    """


def with_user(value: dict[str, Any], name: str) -> dict[str, Any]:
    """
    The rule, the same for all three ways: a name belongs to one person.
    """
    if name in value["users"]:
        raise NameTakenError(f"{name} is taken")
    return {"users": [*value["users"], name]}


# ---------------------------------------------------------------------------------------------------- three ways to do it


@contextmanager
def without_etags(store: str, key: str) -> Iterator[SignUp]:
    """
    Read, check, write; again when the connection fails.
    """
    from dapr.clients import DaprClient

    with DaprClient() as client:

        def sign_up(name: str) -> None:
            for _ in tries():
                try:
                    value = json.loads(client.get_state(store, key).data)
                    client.save_state(store, key, json.dumps(with_user(value, name)))
                except Exception as error:  # noqa: BLE001 - sorted out by its status
                    retry_if(error, "UNAVAILABLE")
                else:
                    return

        yield sign_up


@contextmanager
def with_etags(store: str, key: str) -> Iterator[SignUp]:
    """
    The careful loop: write only over the version that was read; again after a conflict or when the connection fails.
    """
    from dapr.clients import DaprClient

    with DaprClient() as client:

        def sign_up(name: str) -> None:
            for _ in tries():
                try:
                    state = client.get_state(store, key)
                    value = with_user(json.loads(state.data), name)
                    client.save_state(store, key, json.dumps(value), etag=state.etag)
                except Exception as error:  # noqa: BLE001 - sorted out by its status
                    # UNAVAILABLE does not say whether the write took effect, and there is nobody to ask.
                    retry_if(error, "ABORTED", "UNAVAILABLE")
                else:
                    return

        yield sign_up


@contextmanager
def with_toolkit(store: str, key: str) -> Iterator[SignUp]:
    """
    The function goes to the toolkit; conflicts and lost answers are its business.
    """
    from toolkit import StateStore

    with StateStore(store) as states:

        def sign_up(name: str) -> None:
            states.update(key, partial(with_user, name=name))

        yield sign_up


WAYS: dict[str, Callable[[str, str], AbstractContextManager[SignUp]]] = {
    "no-etag": without_etags,
    "etag-loop": with_etags,
    "toolkit": with_toolkit,
}


def tries(seconds: float = 30.0) -> Iterator[int]:
    """
    Count tries, with a random pause before each but the first, until the time is up.
    """
    end = time.monotonic() + seconds
    attempt = 1
    while time.monotonic() < end:
        yield attempt
        time.sleep(random.uniform(0, min(0.002 * 2**attempt, 0.05)))
        attempt += 1
    raise TimeoutError(f"no luck within {seconds:g} s and {attempt} tries")


def retry_if(error: Exception, *statuses: str) -> None:
    """
    Return when the error has one of these gRPC statuses; otherwise raise it again.
    """
    import grpc

    status = error.code() if isinstance(error, grpc.RpcError) else None  # type: ignore[attr-defined]
    if getattr(status, "name", "") not in statuses:
        raise error


# ------------------------------------------------------------------------------------------------------ eight processes


def prepare(barrier: Any, numbers: Any) -> None:
    """
    Set up one process: Ctrl-C ends it at once, and the conflict log calls it by a name.
    """
    global start_line  # noqa: PLW0603 - a pool hands a barrier to its processes in this way only
    start_line = barrier
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with numbers.get_lock():
        numbers.value += 1
        os.environ["OCC_LOG_WRITER"] = f"desk-{numbers.value}"


start_line: Any = None


def enrol(way: str, store: str, key: str, people: int) -> tuple[list[str], float, float]:
    """
    One process: sign up so many people; the names they were told, when it began and when it ended.
    """
    with WAYS[way](store, key) as sign_up:
        start_line.wait(60)
        began = time.monotonic()
        told = [first_free(sign_up, PEOPLE[number % len(PEOPLE)]) for number in range(people)]
        return told, began, time.monotonic()


def first_free(sign_up: SignUp, wanted: str) -> str:
    """
    Sign one person up under the name they want, or the next one that is free.
    """
    name, suffix = wanted, 1
    while True:
        try:
            sign_up(name)
        except NameTakenError:
            suffix += 1
            name = f"{wanted}-{suffix}"
        else:
            return name


def run(way: str, options: argparse.Namespace, pool: ProcessPoolExecutor) -> dict[str, Any]:
    """
    Let all processes sign up their people at once, and compare what they were told with what is stored.
    """
    from toolkit import StateStore

    with StateStore(options.store) as states:
        states.set(options.key, {"users": []})
        jobs = [
            pool.submit(enrol, way, options.store, options.key, options.people)
            for _ in range(options.processes)
        ]
        results = [job.result() for job in jobs]
        stored = Counter(states.get(options.key)["users"])
    told = Counter(name for names, _, _ in results for name in names)
    seconds = max(ended for _, _, ended in results) - min(began for _, began, _ in results)
    return {
        "way": way,
        "told": told.total(),
        "stored": stored.total(),
        "lost": (told - stored).total(),
        "doubled": (stored - told).total(),
        "seconds": round(seconds, 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Sign people up from many processes, three ways.")
    parser.add_argument("--store", default="statestore", help="the name of the state store component")
    parser.add_argument("--key", default="sign-ups", help="the key that holds the list")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--people", type=int, default=len(PEOPLE), help="sign-ups of each process")
    parser.add_argument(
        "--way", choices=WAYS, action="append", help="may be repeated; all of them by default"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()

    # Not fork: a process that has talked gRPC must not be forked. The server loads the SDK once, for all.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["dapr.clients", "toolkit"])
    settings = context.Barrier(options.processes), context.Value("i", 0)
    with ProcessPoolExecutor(options.processes, context, prepare, settings) as pool:
        for way in options.way or WAYS:
            result = run(way, options, pool)
            if options.json:
                print(json.dumps(result), flush=True)
            else:
                print(
                    "{way:10} told {told}, stored {stored}: {lost} lost, {doubled} doubled".format(**result)
                )
    return 0


if __name__ == "__main__":
    from toolkit import StateError

    try:
        sys.exit(main())
    except StateError as error:
        sys.exit(f"sign_up: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
