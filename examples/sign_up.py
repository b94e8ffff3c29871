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
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from crowd import Crowd, retry_if, start, tries

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


# ------------------------------------------------------------------------------------------------------ eight processes


def enrol(_number: int, way: str, store: str, key: str, people: int) -> list[str]:
    """
    One process: sign up so many people, and return the names they were told.
    """
    with WAYS[way](store, key) as sign_up:
        start()
        return [first_free(sign_up, PEOPLE[number % len(PEOPLE)]) for number in range(people)]


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


def run(way: str, options: argparse.Namespace, crowd: Crowd) -> dict[str, Any]:
    """
    Let all processes sign up their people at once, and compare what they were told with what is stored.
    """
    from toolkit import StateStore

    with StateStore(options.store) as states:
        states.set(options.key, {"users": []})
        names = crowd.run(enrol, way, options.store, options.key, options.people)
        stored = Counter(states.get(options.key)["users"])
    told = Counter(name for one in names for name in one)
    return {
        "way": way,
        "told": told.total(),
        "stored": stored.total(),
        "lost": (told - stored).total(),
        "doubled": (stored - told).total(),
        "seconds": round(crowd.seconds, 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Sign people up from many processes, three ways.")
    parser.add_argument("--store", default="statestore", help="the name of the state store component")
    parser.add_argument("--key", default="sign-ups", help="the key that holds the list")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--people", type=int, default=len(PEOPLE), help="sign-ups of each process")
    parser.add_argument("--way", choices=WAYS, action="append", help="may be repeated; by default all")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    with Crowd(options.processes) as crowd:
        for way in options.way or WAYS:
            result = run(way, options, crowd)
            text = "{way:10} told {told}, stored {stored}: {lost} lost, {doubled} doubled".format(**result)
            print(json.dumps(result) if options.json else text, flush=True)
    return 0


if __name__ == "__main__":
    from toolkit import StateError

    try:
        sys.exit(main())
    except StateError as error:
        sys.exit(f"sign_up: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
