"""
The linearizability checker: every kind of violation is found, clean histories pass, and another checker agrees.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import detangle.lin
import pytest

from tests.testing.histories import apply, long_history, random_history
from toolkit.testing.history import Op
from toolkit.testing.linear import BUDGET, check_key, check_linearizable


def op(f: str, arg: Any, out: Any, call: int, ret: int | None, kind: Any = "ok", key: str = "k") -> Op:
    return Op(call, "p", f, kind, call, ret, key, arg, out)


def lost(f: str, arg: Any, call: int) -> Op:
    return op(f, arg, None, call, None, "info")


VIOLATIONS = {
    "stale read": [op("write", 1, None, 1, 2), op("write", 2, None, 3, 4), op("read", None, 1, 5, 6)],
    "lost write": [op("write", 1, None, 1, 2), op("read", None, None, 3, 4)],
    "read from nowhere": [op("write", 1, None, 1, 2), op("read", None, 9, 3, 4)],
    "two winners of a compare-and-set": [
        op("write", 1, None, 1, 2),
        op("cas", [1, 2], True, 3, 10),
        op("cas", [1, 3], True, 4, 9),
    ],
    "refused compare-and-set that had to win": [op("write", 1, None, 1, 2), op("cas", [1, 2], False, 3, 4)],
    "dropped and acknowledged": [
        op("write", 1, None, 1, 2),
        op("cas", [1, 2], True, 3, 4),
        op("read", None, 1, 5, 6),
    ],
    "lost increment": [op("inc", 1, 1, 1, 5), op("inc", 1, 1, 2, 6)],
    "doubled increment": [op("inc", 1, 1, 1, 2), op("read", None, 2, 3, 4)],
    "an unknown operation applied twice": [
        lost("inc", 1, 1),
        op("read", None, 1, 2, 3),
        op("read", None, 2, 4, 5),
    ],
    "an unknown operation undone": [
        lost("write", 7, 1),
        op("read", None, 7, 2, 3),
        op("read", None, None, 4, 5),
    ],
    "applied although certainly not": [op("write", 7, None, 1, 2, "fail"), op("read", None, 7, 3, 4)],
    "resurrected key": [op("write", 1, None, 1, 2), op("del", None, None, 3, 4), op("read", None, 1, 5, 6)],
    "two creates": [op("cas", [None, 1], True, 1, 9), op("cas", [None, 2], True, 2, 8)],
    "read goes back in time": [
        op("write", 1, None, 1, 2),
        op("write", 2, None, 3, 30),
        op("read", None, 2, 4, 5),
        op("read", None, 1, 6, 7),
    ],
    "effect before the call": [op("read", None, 5, 1, 2), op("write", 5, None, 3, 4)],
    "true is not one": [op("write", True, None, 1, 2), op("read", None, 1, 3, 4)],
}

CLEAN = {
    "nothing": [],
    "absent at first": [op("read", None, None, 1, 2)],
    "overlap either way": [
        op("write", 1, None, 1, 10),
        op("read", None, None, 2, 3),
        op("read", None, 1, 4, 5),
    ],
    "touching intervals overlap": [op("read", None, 1, 1, 3), op("write", 1, None, 3, 4)],
    "an unknown write seen later": [
        lost("write", 7, 1),
        op("read", None, None, 2, 3),
        op("read", None, 7, 99, 100),
    ],
    "an unknown write never seen": [lost("write", 7, 1), op("read", None, None, 2, 3)],
    "equal unknown increments": [lost("inc", 1, 1), lost("inc", 1, 2), op("read", None, 2, 9, 10)],
    "an increment without an answer to compare": [op("inc", 1, None, 1, 2), op("read", None, 1, 3, 4)],
    "values that are no scalars": [op("write", {"a": [1]}, None, 1, 2), op("read", None, {"a": [1]}, 3, 4)],
    "a compare-and-set that lost a race": [
        op("write", 1, None, 1, 2),
        op("cas", [1, 2], True, 3, 10),
        op("cas", [1, 3], False, 4, 9),
        op("read", None, 2, 11, 12),
    ],
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_planted_violation_is_found(name: str) -> None:
    """No order explains it, and the report says where."""
    report = check_linearizable(VIOLATIONS[name])
    assert report.verdict == "bad"
    assert report.keys["k"].at in VIOLATIONS[name]
    assert "no order explains" in str(report)


@pytest.mark.parametrize("name", CLEAN)
def test_a_clean_history_passes(name: str) -> None:
    """An order explains every answer."""
    assert check_linearizable(CLEAN[name]).verdict == "ok"


def test_keys_are_judged_one_by_one() -> None:
    """One bad key makes the history bad, and only that key is named."""
    good = [op("write", 1, None, 1, 2, key="good")]
    report = check_linearizable([*good, *VIOLATIONS["lost write"]])
    assert {key: found.verdict for key, found in report.keys.items()} == {"good": "ok", "k": "bad"}


def test_a_spent_budget_is_unknown_and_no_pass() -> None:
    """The verdict says that nothing was proved."""
    history = [op("write", value, None, value + 1, 90) for value in range(8)]
    history += [op("read", None, 99, 50, 80)]
    report = check_linearizable(history, budget=5)
    assert report.verdict == "unknown"
    assert "the budget ended at" in str(report)
    assert check_linearizable(history).verdict == "bad"


def test_an_unknown_function_is_an_error() -> None:
    """A misspelt operation must not be skipped."""
    with pytest.raises(ValueError, match="operation 1 is 'reed'"):
        check_linearizable([op("reed", None, None, 1, 2)])


class Judge(detangle.lin.Model):
    """
    The same register for the independent checker, on the tests' own ``apply``.
    """

    def init(self) -> Any:
        return None

    def step(self, state: Any, operation: Any) -> tuple[bool, Any]:
        after, out = apply(state, operation.f, operation.arg)
        compared = operation.status == "ok" and operation.f not in {"write", "del"}
        return not compared or (out == operation.output and type(out) is type(operation.output)), after


def judge(history: list[Op]) -> bool:
    operations = []
    # Its clock must tell apart what ours calls equal: a call sorts before a return at the same time.
    for index, row in enumerate(history):
        operation = detangle.lin.Operation(
            index, row.proc, row.f, row.arg, 2 * row.call, 0.0, row.out, row.type
        )
        operation.ret = 2 * row.ret + 1 if row.type == "ok" and row.ret is not None else None
        operations.append(operation)
    return detangle.lin.check(
        [row for row in operations if not (row.f == "read" and row.status == "info")], Judge()
    ).ok


def test_an_independent_checker_agrees_on_ten_thousand_random_histories() -> None:
    """Good and bad histories alike get the same verdict from both."""
    verdicts: Counter[tuple[bool, str]] = Counter()
    for seed in range(10_000):
        history = random_history(seed, ops=4 + seed % 8, procs=2 + seed % 4)
        verdicts[judge(history), check_key(history).verdict] += 1
    assert set(verdicts) == {(True, "ok"), (False, "bad")}
    assert min(verdicts.values()) > 1500


@pytest.mark.parametrize("functions", ["read write cas del", "read inc inc"])
def test_a_long_history_with_many_unknowns_is_decided_early(functions: str) -> None:
    """800 operations of one key, 30 % of them unknown, take a fifth of the budget at most."""
    found = check_key(long_history(1, ops=800, unknown=0.3, functions=functions.split()))
    assert found.verdict == "ok"
    assert found.configurations < BUDGET / 5


def test_many_keys_are_decided_early() -> None:
    """20,000 operations over 100 keys with 3 % unknown: no more than twenty possibilities looked at for each."""
    source = random.Random(5)
    history: list[Op] = []
    for key in range(100):
        rows = long_history(
            source.randrange(10**9), ops=200, unknown=0.03, functions=["read", "write", "cas", "del"]
        )
        history += [
            Op(row.id, row.proc, row.f, row.type, row.call, row.ret, f"k{key}", row.arg, row.out)
            for row in rows
        ]
    report = check_linearizable(history)
    assert report.verdict == "ok"
    assert sum(key.configurations for key in report.keys.values()) < 20 * len(history)
