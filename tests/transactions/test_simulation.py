"""
Thousands of seeded schedules of transactions, judged by the list-append checker; positive controls break a rule first.

``OCC_REQUIRE_STORES=all`` (``make test-all``) plays ten times as many.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.transactions import sim
from toolkit.core import commit, recovery, transaction

COUNT = 20_000 if os.environ.get("OCC_REQUIRE_STORES") else 2_000
FAULTS = ("drop_request", "drop_reply", "duplicate", "late", "late_duplicate", "fail_read", "kill", "freeze")


@pytest.mark.timeout(600)
def test_no_schedule_breaks_a_promise(capsys: pytest.CaptureFixture[str]) -> None:
    """Atomic, strict serializable, applied once, truthfully reported; and not void: every fault fired often."""
    started = time.perf_counter()
    heard, faults, digests, found = sim.explore(0, COUNT)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{COUNT} runs, {len(digests)} distinct schedules in {time.perf_counter() - started:.0f} s: "
            f"{dict(heard)} {dict(faults)}\n"
        )
    assert found == [], "\n".join(found[:5])
    few = [fault for fault in FAULTS if faults[fault] < 100]
    assert few == [], f"this run is void: {', '.join(few)} fired fewer than 100 times"
    assert heard["ok"] >= 0.6 * (heard["ok"] + heard["info"] + heard["fail"]), (
        "this run is void: too few were ok"
    )


def _no_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that were only read are not guarded: write skew."""
    original = transaction.TxRun.__init__

    def init(self: Any, site: Any, options: Any, *rest: Any) -> None:
        original(
            self,
            site,
            options.__class__(options.label, op_id=options.op_id, isolation="read_committed"),
            *rest,
        )

    monkeypatch.setattr(transaction.TxRun, "__init__", init)


def _single_collect(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that only read is believed at once."""

    def agree(self: Any) -> Any:
        return True
        yield

    monkeypatch.setattr(transaction.TxRun, "_agree", agree)


def _trust_prepares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a prepare was answered, it counts as in place."""
    monkeypatch.setattr(commit, "_clean", lambda *_: True)


def _mismatch_is_abort(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused decision is reported as lost without reading the record."""
    original = commit.read_record

    def blind(site: Any, key: str, deadline: float) -> Any:
        record = yield from original(site, key, deadline)
        return record.__class__(record.key, etag=record.etag, void=True)

    monkeypatch.setattr(commit, "read_record", blind)


def _presume_abort(monkeypatch: pytest.MonkeyPatch) -> None:
    """An undecided intent is taken for aborted, and no record says so."""

    def presume(*_: Any) -> Any:
        return False
        yield

    monkeypatch.setattr(recovery, "decide_abort", presume)


@pytest.mark.parametrize(
    "break_a_rule", [_no_guard, _single_collect, _trust_prepares, _mismatch_is_abort, _presume_abort]
)
def test_the_simulation_sees_a_broken_rule(
    break_a_rule: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each makes some schedule of the first few hundred go wrong."""
    break_a_rule(monkeypatch)
    found: list[str] = []
    for first in range(0, 2_000, 50):
        try:
            found = sim.explore(first, 50)[3]
        except (AssertionError, ValueError) as error:
            found = [str(error)]
        if found:
            break
    assert found != []


def test_a_seed_replays() -> None:
    """The same seed is the same run."""
    assert sim.play(77)[1].digest == sim.play(77)[1].digest
