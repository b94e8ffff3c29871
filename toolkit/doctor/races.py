"""
The experiments that need several clients at once: no sequence of calls shows them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Final, TypeVar

from toolkit.core.model import Reply
from toolkit.doctor.bench import Bench, first_write
from toolkit.doctor.wire import Op
from toolkit.stores import IMPOSSIBLE_ETAG

ROUNDS: Final = 30
WRITERS: Final = 8
INCREMENTS: Final = 40
_PATIENCE: Final = 60.0

T = TypeVar("T")


def _together(send: Callable[[T], Reply], requests: Sequence[T], pool: ThreadPoolExecutor) -> list[Reply]:
    """
    Send the requests from as many threads, let go by one barrier.
    """
    barrier = threading.Barrier(len(requests))

    def run(request: T) -> Reply:
        barrier.wait(_PATIENCE)
        return send(request)

    return list(pool.map(run, requests))


def _rounds_with_several(bench: Bench, make: Callable[[], list[Op]]) -> int:
    """
    Count the rounds in which more than one of the operations was answered OK.
    """
    with ThreadPoolExecutor(WRITERS) as pool:
        return sum(sum(r.ok for r in _together(bench.wire.send, make(), pool)) > 1 for _ in range(ROUNDS))


def _value(number: int) -> bytes:
    return b'{"w":%d}' % number


def raced_creates(bench: Bench) -> None:
    """
    Eight creators of one absent key: one of them may be told that it won.
    """
    impossible = bench.profile.create == "impossible-etag"
    if not impossible and bench.facts.get("create-by-first-write") != "safe":
        if bench.facts.get("create-by-impossible-etag") != "safe":
            bench.skipped["raced-creates"] = (
                "no write of this store creates a key and leaves an existing one alone"
            )
            return
        impossible = True

    def ops() -> list[Op]:
        key = bench.key("race")
        if impossible:
            return [Op(key, _value(n), etag=IMPOSSIBLE_ETAG) for n in range(WRITERS)]
        return [first_write(key, _value(n)) for n in range(WRITERS)]

    _record(bench, "raced-creates", _rounds_with_several(bench, ops))


def raced_compare_and_sets(bench: Bench) -> None:
    """
    Eight compare-and-sets with the same current ETag.
    """

    def ops() -> list[Op]:
        key, etag = bench.made(b'{"w":"start"}', "race")
        return [Op(key, _value(n), etag=etag or "1") for n in range(WRITERS)]

    _record(bench, "raced-compare-and-sets", _rounds_with_several(bench, ops))


def delete_against_compare_and_set(bench: Bench) -> None:
    """
    One conditional delete against compare-and-sets with the same ETag: both OK means the key came back.
    """
    rounds = 0
    with ThreadPoolExecutor(5) as pool:
        for turn in range(ROUNDS):
            key, etag = bench.made(b'{"w":"start"}', "race")
            ops = [Op(key, _value(n), etag=etag or "1") for n in range(4)]
            # A barrier lets the last one go first, so the delete takes every place in turn.
            place = turn % 5
            ops.insert(place, Op(key, None, etag=etag or "1"))
            replies = _together(bench.wire.send, ops, pool)
            deleted = replies.pop(place).ok
            rounds += deleted and any(reply.ok for reply in replies)
    _record(bench, "delete-against-compare-and-set", rounds)


def raced_transactions(bench: Bench) -> None:
    """
    Eight transactions over the same two keys with the same current ETags: one winner, whole on both keys.
    """
    if bench.facts.get("transaction") != "none applied" or not bench.facts.get("etags"):
        return
    several = torn = 0
    with ThreadPoolExecutor(WRITERS) as pool:
        for _ in range(ROUNDS):
            (first, one), (second, two) = (
                bench.made(b'{"w":"start"}', "race"),
                bench.made(b'{"w":"start"}', "race"),
            )
            sets = [[Op(first, _value(n), etag=one), Op(second, _value(n), etag=two)] for n in range(WRITERS)]
            several += sum(reply.ok for reply in _together(bench.wire.multi, sets, pool)) > 1
            torn += bench.read(first).data != bench.read(second).data
    outcome = "torn" if torn else "several winners" if several else "one winner"
    bench.facts["raced-transactions"] = outcome
    bench.answers["raced-transactions"] = f"{several} of {ROUNDS} rounds with several winners, {torn} torn"


def _record(bench: Bench, name: str, rounds: int) -> None:
    bench.facts[name] = "several winners" if rounds else "one winner"
    bench.answers[name] = f"{rounds} of {ROUNDS} rounds with several winners"


def counter(bench: Bench) -> None:
    """
    Eight threads add one to a counter forty times each, by compare-and-set; each reply that says OK is one.
    """
    key = bench.key("race")
    bench.set(key, b"0")
    barrier = threading.Barrier(WRITERS)

    def add(_: int) -> int:
        barrier.wait(_PATIENCE)
        acknowledged = 0
        for _attempt in range(INCREMENTS * WRITERS * 4):
            found = bench.read(key)
            value = b"%d" % (int(found.data or b"0") + 1)
            acknowledged += bench.wire.send(Op(key, value, etag=found.etag or "1")).ok
            if acknowledged == INCREMENTS:
                break
        return acknowledged

    with ThreadPoolExecutor(WRITERS) as pool:
        acknowledged = sum(pool.map(add, range(WRITERS)))
    value = int(bench.read(key).data or b"0")
    bench.facts["counter"] = "exact" if value == acknowledged else "lost updates"
    bench.answers["counter"] = f"{acknowledged} acknowledged, value {value}"


RACES: Final[Mapping[str, Callable[[Bench], None]]] = MappingProxyType(
    {
        "raced creates": raced_creates,
        "raced compare-and-sets": raced_compare_and_sets,
        "delete against compare-and-set": delete_against_compare_and_set,
        "raced transactions": raced_transactions,
        "counter": counter,
    }
)
