"""
The commit paths, checked in every state that small configurations reach; and each of their rules, broken to be missed.

The programs run the shipped generators (``explorer``). Bounds: two or three processes with one call each on two keys,
so many lost, late or repeated writes and so many crashes in a whole run as each row says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import msgspec.structs
import pytest

from tests.model.judge import explore
from tests.model.programs import Program
from tests.model.rows import Table, check_rows
from toolkit.core import commit, intents, recovery, transaction, update
from toolkit.core.model import Write
from toolkit.core.steps import Put

AB: Final = ("a", "b")


def pair(*, path: str = "intents", op_id: str | None = None, finishes: bool = False) -> tuple[Program, ...]:
    """Two transactions over the same two keys."""
    value = "x" if op_id is not None else ""
    return tuple(
        Program(name, AB, AB, path=path, op_id=op_id, value=value, finishes=finishes) for name in ("s", "t")
    )


def skew(path: str = "intents", other: str | None = None, **options: Any) -> tuple[Program, ...]:
    """Each reads both keys and writes another one."""
    return Program("s", AB, ("a",), path=path, **options), Program(
        "t", AB, ("b",), path=other or path, **options
    )


ROWS: Final[Table] = {
    "ab x2": (pair(), 1, 1, {}),
    "ab x2, finishing": (pair(finishes=True), 0, 1, {}),
    "ab + finishing, two faults": ((Program("s", AB, AB, finishes=True),), 2, 1, {}),
    "skew": (skew(), 1, 1, {}),
    "skew on absence": (skew(), 1, 0, {"absent": True}),
    "ab + update": ((Program("s", AB, AB), Program("u", ("a",), ("a",), "update")), 2, 1, {}),
    "skew + update": ((*skew(), Program("u", ("a",), ("a",), "update")), 0, 0, {}),
    "ab + snapshot": ((Program("s", AB, AB, finishes=True), Program("r", AB, kind="snapshot")), 1, 0, {}),
    "ab + update + snapshot": (
        (Program("s", AB, AB), Program("u", ("a",), ("a",), "update"), Program("r", AB, kind="snapshot")), 0, 0, {},
    ),
    "two updates + reading transaction": (
        (Program("u", ("a",), ("a",), "update"), Program("w", ("b",), ("b",), "update"), Program("r", AB)), 0, 0, {},
    ),
    "one op twice": (pair(op_id="o"), 1, 1, {}),
    "one op, disjoint writes": (
        (Program("s", AB, ("a",), op_id="o", value="x"), Program("t", AB, ("b",), op_id="o", value="y")), 0, 1, {},
    ),
    "void": ((Program("s", AB, AB, op_id="o"), Program("v", kind="void", op_id="o")), 2, 1, {}),
    "d1 on a locked key": ((Program("s", AB, ("a",)), Program("f", ("b",), ("b",), "d1")), 1, 0, {}),
    "d2 on a locked key": ((Program("s", AB, ("a",)), Program("f", ("b",), ("b",), "d2")), 1, 0, {}),
    "native ab x2": (pair(path="native"), 2, 1, {}),
    "native skew": (skew("native"), 2, 1, {}),
    "native skew on absence": (skew("native"), 1, 1, {"absent": True}),
    "native, one op twice": (pair(path="native", op_id="o"), 1, 1, {}),
    "native beside intents": (skew("native", "intents"), 1, 1, {}),
    "native beside intents, one op": (
        (Program("s", AB, AB, path="native", op_id="o", value="x"), Program("t", AB, AB, op_id="o", value="x")), 1, 1, {},
    ),
    "native + void": (
        (Program("s", AB, AB, path="native", op_id="o"), Program("v", kind="void", op_id="o")), 1, 1, {},
    ),
}  # fmt: skip


@pytest.mark.timeout(600)
def test_every_state_keeps_the_promises(capsys: pytest.CaptureFixture[str]) -> None:
    """Atomic, applied once, truthfully reported, serializable with reads, and settled by whoever comes next."""
    check_rows(ROWS, capsys, 50_000)


# -- unsafe variants ---------------------------------------------------------------------------------------------------


def trust_prepares(patch: pytest.MonkeyPatch) -> None:
    """2, 29: decide without a clean yes of, or own intent seen for, every prepare."""
    patch.setattr(commit, "_clean", lambda *_: True)


def mismatch_is_abort(patch: pytest.MonkeyPatch) -> None:
    """3: a refused decision is taken for an abort instead of reading the record."""
    original = commit.read_record

    def never(site: Any, key: str, deadline: float) -> Any:
        record = yield from original(site, key, deadline)
        return msgspec.structs.replace(record, committed="", void=True)

    patch.setattr(commit, "read_record", never)


def presume_abort(patch: pytest.MonkeyPatch) -> None:
    """4: an undecided intent counts as aborted though no record says so."""

    def presume(*_: Any) -> Any:
        return False
        yield

    patch.setattr(recovery, "decide_abort", presume)


def record_goes_first(patch: pytest.MonkeyPatch) -> None:
    """5, 15: the record is gone while an intent still stands."""
    original = transaction.finish

    def finish(site: Any, record: Any, tx: str, deadline: float) -> Any:
        yield from Put(Write(record.key, None))
        return (yield from original(site, record, tx, deadline))

    patch.setattr(transaction, "finish", finish)


def single_collect(patch: pytest.MonkeyPatch) -> None:
    """14: reads of several keys are believed without a second reading."""

    def agree(_: Any) -> Any:
        return True
        yield

    patch.setattr(transaction.TxRun, "_agree", agree)


def no_look_up(patch: pytest.MonkeyPatch) -> None:
    """20: a repeat does not look whether its operation is recorded."""
    patch.setattr(transaction.TxRun, "_recorded", lambda *_: None)


def over_undecided(patch: pytest.MonkeyPatch) -> None:
    """26: a single update writes over an undecided intent."""

    def clear(_site: Any, seen: Any, *_: Any) -> Any:
        found = intents.intent_of(seen)
        return seen if found is None else intents.effective(seen, found, committed=False)
        yield

    patch.setattr(update, "clear", clear)


def unguarded(programs: tuple[Program, ...]) -> tuple[Program, ...]:
    """28: keys that were only read carry no intent."""
    return tuple(replace(program, isolation="read_committed") for program in programs)


VARIANTS: Final[
    list[tuple[Callable[[pytest.MonkeyPatch], None] | None, str, tuple[Program, ...], int, int]]
] = [
    (trust_prepares, "intents", skew(), 1, 0),
    (mismatch_is_abort, "intents", pair(), 1, 0),
    (presume_abort, "intents", pair(), 0, 0),
    (record_goes_first, "intents", pair(finishes=True), 0, 1),
    (single_collect, "intents", (Program("s", AB, AB), Program("r", AB)), 0, 0),
    (no_look_up, "intents", pair(op_id="o"), 0, 0),
    (no_look_up, "native", pair(path="native", op_id="o"), 0, 0),
    (over_undecided, "intents", (Program("s", AB, AB), Program("u", ("a",), ("a",), "update")), 0, 0),
    (None, "intents unguarded", unguarded(skew()), 0, 0),
    (None, "native unguarded", unguarded(skew("native")), 0, 0),
]


@pytest.mark.parametrize(("variant", "programs", "faults", "crashes"), [
    pytest.param(variant, programs, faults, crashes, id=f"{variant.__name__ if variant else 'read_committed'}-{path}")
    for variant, path, programs, faults, crashes in VARIANTS
])  # fmt: skip
def test_an_unsafe_variant_is_caught(
    variant: Any, programs: tuple[Program, ...], faults: int, crashes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one rule changed the model finds a schedule that breaks a promise."""
    if variant is not None:
        variant(monkeypatch)
    assert explore(programs, faults=faults, crashes=crashes).problems != ()
