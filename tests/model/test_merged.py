"""
Merged transactions in the model: a batch is one process, with several bodies on one working copy and one commit.

Bounds as in ``test_model``; every member reports for itself and is judged by itself, in some serial order with all others.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.model.judge import explore
from tests.model.programs import Program
from tests.model.rows import Table, check_rows
from tests.model.test_model import AB
from toolkit.core import merge, working


def batch(*members: Program, path: str = "intents", finishes: bool = False) -> Program:
    """One commit for these."""
    return Program(
        "+".join(member.name for member in members),
        kind="merged",
        path=path,
        members=members,
        finishes=finishes,
    )


S, T = Program("s", AB, ("a",)), Program("t", AB, ("b",))
ONE, TWO = Program("s", AB, AB), Program("t", AB, AB)
U, V = Program("u", AB, AB), Program("v", ("a",), ("a",), "update")


def op(name: str, op_id: str, **more: Any) -> Program:
    """A transaction with an operation id; all attempts of it append the same."""
    return Program(name, AB, AB, op_id=op_id, value=f"x{op_id}", **more)


ROWS: Final[Table] = {
    "two, alone": ((batch(ONE, TWO, finishes=True),), 2, 1, {}),
    "two + ab": ((batch(ONE, TWO), U), 1, 1, {}),
    "skew merged + ab": ((batch(S, T), U), 1, 0, {}),
    "skew merged + update": ((batch(S, T), V), 1, 1, {}),
    "two batches": ((batch(S, T), batch(Program("u", AB, ("b",)), Program("v", AB, ("a",)))), 0, 1, {}),
    "two + snapshot": ((batch(ONE, TWO, finishes=True), Program("r", AB, kind="snapshot")), 0, 0, {}),
    "two, absent": ((batch(ONE, TWO), U), 0, 1, {"absent": True}),
    "a reader among them": ((batch(ONE, Program("r", AB), TWO), V), 1, 0, {}),
    "one op + another attempt": ((batch(op("s", "o"), TWO), op("u", "o")), 1, 1, {}),
    "one op + void": ((batch(TWO, op("s", "o")), Program("w", kind="void", op_id="o")), 1, 1, {}),
    "native two + ab": ((batch(ONE, TWO, path="native"), Program("u", AB, AB, path="native")), 2, 1, {}),
    "native two ops + another attempt": (
        (batch(op("s", "o"), op("t", "p"), path="native"), op("u", "p", path="native")), 2, 1, {},
    ),
    "native two ops + void": (
        (batch(op("s", "o"), op("t", "p"), path="native"), Program("w", kind="void", op_id="p")), 2, 1, {},
    ),
    "native two ops + both again": (
        (
            batch(op("s", "o"), op("t", "p"), path="native"),
            batch(op("u", "p"), op("v", "o"), path="native"),
        ), 1, 1, {},
    ),
    "native two ops beside intents": ((batch(op("s", "o"), op("t", "p"), path="native"), op("u", "o")), 1, 1, {}),
}  # fmt: skip


@pytest.mark.timeout(600)
def test_every_state_keeps_the_promises(capsys: pytest.CaptureFixture[str]) -> None:
    """Each member whole and once, truthfully reported, and all in some serial order with everybody else."""
    check_rows(ROWS, capsys, 5_000)


def no_versions(patch: pytest.MonkeyPatch) -> None:
    """Keys a body only read are not part of the commit."""
    honest = merge.MergedRun.fold

    def fold(self: Any, share: Any, result: Any, error: Any) -> None:
        honest(self, share, result, error)
        share.needed = frozenset(share.run.buffer.writes)

    patch.setattr(merge.MergedRun, "fold", fold)


def no_working_copy(patch: pytest.MonkeyPatch) -> None:
    """A body does not see what those before it have made."""
    patch.setattr(
        working.Working, "value", lambda self, key: dict(self.rows[key].value) if self.versions[key] else None
    )


def one_record(patch: pytest.MonkeyPatch) -> None:
    """Only the first operation's record is written with the commit."""
    honest = merge.Plan

    def plan(*args: Any) -> Any:
        return honest(*args[:6])

    patch.setattr(merge, "Plan", plan)


@pytest.mark.parametrize(("variant", "name"), [
    (no_versions, "skew merged + ab"), (no_working_copy, "two, alone"), (one_record, "native two ops + another attempt"),
], ids=["unguarded", "no working copy", "one record"])  # fmt: skip
def test_an_unsafe_variant_is_caught(variant: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one rule of merging changed the model finds a schedule that breaks a promise."""
    variant(monkeypatch)
    programs, faults, crashes, options = ROWS[name]
    if variant is no_versions:
        programs = (batch(S, S.__class__("t", AB, ("a",))), Program("u", AB, ("b",)))
    assert explore(programs, faults=faults, crashes=crashes, **options).problems != ()
