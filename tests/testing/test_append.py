"""
The list-append checker: every anomaly is found under its name, and clean histories pass.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from toolkit.testing.append import check_append
from toolkit.testing.history import Op

R, A = "r", "append"


def txn(name: int, *mops: Any, at: tuple[int, int] = (0, 1000), kind: Any = "ok", f: str = "txn") -> Op:
    """A transaction; by default all of them overlap, so that real time orders nothing."""
    return Op(name, name, f, kind, at[0], at[1], mops=tuple(mops))


ANOMALIES = {
    "internal": (
        [txn(1, (A, "x", 1), (R, "x", []))],
        {"internal"},
    ),
    "internal, not repeatable": (
        [txn(1, (R, "x", []), (R, "x", [2])), txn(2, (A, "x", 2))],
        # The same transaction read both before and after the other one.
        {"internal", "G-single"},
    ),
    "duplicate": (
        [txn(1, (A, "x", 1)), txn(2, (A, "x", 2)), txn(3, (R, "x", [1, 2, 1]))],
        {"duplicate", "G0"},
    ),
    "incompatible order": (
        [txn(1, (A, "x", 1)), txn(2, (A, "x", 2)), txn(3, (R, "x", [1])), txn(4, (R, "x", [2, 1]))],
        {"incompatible-order"},
    ),
    "garbage": (
        [txn(1, (R, "x", [7]))],
        {"garbage"},
    ),
    "aborted read": (
        [txn(1, (A, "x", 1), kind="fail"), txn(2, (R, "x", [1]))],
        {"G1a"},
    ),
    "intermediate read": (
        [txn(1, (A, "x", 1), (A, "x", 2)), txn(2, (R, "x", [1])), txn(3, (R, "x", [1, 2]))],
        {"G1b", "G-single"},
    ),
    "lost append": (
        [txn(1, (A, "x", 1)), txn(2, (A, "x", 2)), txn(9, (R, "x", [2]), f="final", at=(2000, 2001))],
        {"lost"},
    ),
    "partial transaction": (
        [txn(1, (A, "x", 1), (A, "y", 1)), txn(9, (R, "x", [1]), (R, "y", []), f="final", at=(2000, 2001))],
        {"lost"},
    ),
    "write cycle": (
        [
            txn(1, (A, "x", 1), (A, "y", 1)),
            txn(2, (A, "x", 2), (A, "y", 2)),
            txn(3, (R, "x", [1, 2])),
            txn(4, (R, "y", [2, 1])),
        ],
        {"G0"},
    ),
    "circular information flow": (
        [txn(1, (A, "x", 1), (R, "y", [2])), txn(2, (A, "y", 2), (R, "x", [1]))],
        {"G1c"},
    ),
    "lost update": (
        [txn(1, (R, "x", []), (A, "x", 1)), txn(2, (R, "x", []), (A, "x", 2)), txn(3, (R, "x", [1, 2]))],
        {"G-single"},
    ),
    "read skew": (
        [txn(1, (A, "x", 1), (A, "y", 1)), txn(2, (R, "x", [1]), (R, "y", [])), txn(3, (R, "y", [1]))],
        {"G-single"},
    ),
    "write skew": (
        [
            txn(1, (R, "x", []), (R, "y", []), (A, "x", 1)),
            txn(2, (R, "x", []), (R, "y", []), (A, "y", 2)),
            txn(3, (R, "x", [1]), (R, "y", [2])),
        ],
        {"G2-item"},
    ),
    "long fork": (
        [
            txn(1, (A, "x", 1)),
            txn(2, (A, "y", 2)),
            txn(3, (R, "x", [1]), (R, "y", [])),
            txn(4, (R, "x", []), (R, "y", [2])),
        ],
        {"G2-item"},
    ),
    "stale read in real time": (
        [txn(1, (A, "x", 1), at=(1, 2)), txn(2, (R, "x", []), at=(3, 4)), txn(3, (R, "x", [1]), at=(5, 6))],
        {"strict-1SR"},
    ),
    "reordered in real time": (
        [txn(1, (A, "x", 1), at=(1, 2)), txn(2, (A, "x", 2), at=(3, 4)), txn(3, (R, "x", [2, 1]), at=(5, 6))],
        {"strict-1SR"},
    ),
}

CLEAN = {
    "nothing": [],
    "one after the other": [
        txn(1, (A, "x", 1), at=(1, 2)),
        txn(2, (R, "x", [1]), (A, "x", 2), (R, "x", [1, 2]), at=(3, 4)),
        txn(9, (R, "x", [1, 2]), f="final", at=(5, 6)),
    ],
    "an unknown transaction that landed": [txn(1, (A, "x", 1), kind="info"), txn(2, (R, "x", [1]))],
    "an unknown transaction that did not": [
        txn(1, (A, "x", 1), kind="info"),
        txn(9, (R, "x", []), f="final", at=(5000, 5001)),
    ],
    "a failed transaction nobody saw": [txn(1, (A, "x", 1), kind="fail"), txn(2, (R, "x", []))],
    "overlap either way": [
        txn(1, (A, "x", 1), at=(1, 10)),
        txn(2, (R, "x", []), at=(2, 3)),
        txn(3, (R, "x", [1]), at=(4, 5)),
    ],
    "touching intervals overlap": [txn(1, (A, "x", 1), at=(1, 3)), txn(2, (R, "x", []), at=(3, 4))],
    "own appends between reads": [txn(1, (R, "x", []), (A, "x", 1), (A, "x", 2), (R, "x", [1, 2]))],
}


@pytest.mark.parametrize("name", ANOMALIES)
def test_a_planted_anomaly_is_found_under_its_name(name: str) -> None:
    """Exactly the kinds expected are reported."""
    history, kinds = ANOMALIES[name]
    report = check_append(history)
    assert report.kinds == kinds
    assert all(kind in str(report) for kind in kinds)


@pytest.mark.parametrize("name", CLEAN)
def test_a_clean_history_passes(name: str) -> None:
    """Nothing is found and the report says so."""
    report = check_append(CLEAN[name])
    assert (report.ok, str(report)) == (True, "strict serializable")


def test_the_final_state_may_be_given() -> None:
    """The last state of the store counts like a final read."""
    history = [txn(1, (A, "x", 1)), txn(2, (A, "x", 2))]
    assert check_append(history, final={"x": [1, 2]}).ok
    assert check_append(history, final={"x": [2]}).kinds == {"lost"}


def test_a_cycle_is_told_with_its_edges() -> None:
    """The report names the transactions and how they depend on each other."""
    history, _ = ANOMALIES["read skew"]
    (anomaly,) = check_append(history).anomalies
    assert anomaly.detail == "cycle 2 -rw-> 1 -wr-> 2"
    assert anomaly.ops == (2, 1)


@pytest.mark.parametrize(
    "history",
    [[txn(1, (A, "x", 1)), txn(2, (A, "x", 1))], [txn(1, ("w", "x", 1))], [txn(1, (R, "x", []), f="read")]],
)
def test_what_cannot_be_judged_is_an_error(history: list[Op]) -> None:
    """A value appended twice or another operation makes the method void."""
    with pytest.raises(ValueError, match=r"must be unique|no list-append transaction"):
        check_append(history)


def serial(seed: int, count: int, *, clients: int = 6, keys: int = 8, unknown: float = 0.05) -> list[Op]:
    """A history of a serializable store: each transaction takes effect at one moment of its interval."""
    source = random.Random(seed)
    free = [0] * clients
    drafts: list[tuple[int, int, int, int]] = []
    for name in range(count):
        client = source.randrange(clients)
        call = free[client] + source.randrange(1, 10)
        ret = call + source.randrange(1, 20)
        free[client] = ret + 1
        drafts.append((source.randrange(call, ret + 1), name, call, ret))
    lists: dict[str, list[int]] = {}
    history: list[Op] = []
    value = 0
    for place, (_, name, call, ret) in enumerate(sorted(drafts)):
        kind: Any = "info" if source.random() < unknown else "ok"
        lands = kind == "ok" or source.random() < 0.5
        mops: list[tuple[str, str, Any]] = []
        for _ in range(source.randrange(1, 5)):
            key = f"k{source.randrange(keys) + place // 500 * keys}"
            if source.random() < 0.5:
                mops.append((R, key, list(lists.get(key, ())) if kind == "ok" else None))
            else:
                value += 1
                mops.append((A, key, value))
                if lands:
                    lists.setdefault(key, []).append(value)
        history.append(Op(name, name % clients, "txn", kind, call, ret, mops=tuple(mops)))
    end = max(free) + 1
    final = tuple((R, key, list(values)) for key, values in lists.items())
    return [*sorted(history, key=lambda op: op.call), Op(count, 0, "final", "ok", end, end + 1, mops=final)]


@pytest.mark.parametrize("seed", range(20))
def test_random_serializable_histories_pass(seed: int) -> None:
    """500 transactions of six clients, some with unknown outcomes, show nothing."""
    assert str(check_append(serial(seed, 500))) == "strict serializable"


@pytest.mark.parametrize("seed", range(20))
def test_one_read_made_stale_is_found(seed: int) -> None:
    """In a clean history one read loses its last values, and the checker says so."""
    source = random.Random(seed)
    history = serial(seed, 500, unknown=0.0)
    last = {name: op.ret for op in history for kind, name, _ in op.mops if kind == A}
    candidates = [
        (at, place)
        for at, op in enumerate(history[:-1])
        for place, (kind, key, seen) in enumerate(op.mops)
        if kind == R and len(seen) > 6 and last[key] and [mop[1] for mop in op.mops].count(key) == 1
    ]
    at, place = source.choice(candidates)
    op = history[at]
    mops = list(op.mops)
    mops[place] = (R, mops[place][1], mops[place][2][:-6])
    history[at] = Op(op.id, op.proc, op.f, op.type, op.call, op.ret, mops=tuple(mops))
    assert not check_append(history).ok


def test_twenty_thousand_transactions_are_checked() -> None:
    """The size of a long run is no problem."""
    assert check_append(serial(1, 20_000)).ok
