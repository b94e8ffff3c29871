"""
The ready workflow ``renewals``: one charge per period, whatever is redelivered and whoever is killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.testing import MemoryStore
from workflows.actors import TurnHazards, explore_turns
from workflows.library import RENEWALS, InputFileError
from workflows.library.renewals import Subscription, read_subscriptions
from workflows.library.renewals_actor import RenewalsCustomer

ROOT = Path(__file__).parents[2]
ADA = {"customer": "ada", "fee": 900, "first": "2026-11", "periods": 3, "balance": 5000}
MONTHS = ["2026-11", "2026-12", "2027-01"]


def test_periods_are_months():
    """
    They go on over the end of a year.
    """
    assert MONTHS == Subscription("ada", 900, "2026-11", 3).months()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fee": 0}, "positive fee"),
        ({"first": "2026-13"}, "month like 2026-11"),
        ({"customer": "a/b"}, "a name without /, "),
        ({"customer": "a||b"}, "a name without /, "),
        ({"customer": ".."}, "a name without /, "),
        ({"fee": "much"}, "it looks like this"),
    ],
)
def test_a_wrong_input_file_is_named(change, said):
    """
    The message says what is wrong and what it should be.
    """
    with pytest.raises(InputFileError, match=said):
        read_subscriptions(json.dumps({"every": 1, "subscriptions": [{**ADA, **change}]}))


class Told:
    """
    A workflow client that notes what the workflow is told.
    """

    def __init__(self):
        self.periods = []

    def raise_workflow_event(self, instance_id, name, data):
        assert "renewals-ada" == instance_id
        self.periods.append(name.removeprefix("due "))


def test_the_workflow_is_told_each_period_in_order(monkeypatch):
    """
    Under crashes, a second activation and redelivered reminders: no period is left out, none comes before its turn.
    """

    def port():
        monkeypatch.setattr(RenewalsCustomer, "events", Told())
        return MemoryStore()

    def check(played):
        told = list(dict.fromkeys(RenewalsCustomer.events.periods))
        assert MONTHS[: len(told)] == told
        if played.answered("Subscribe"):
            assert (MONTHS, 3) == (told, played.state["next"])

    calls = [("Subscribe", {"every": 1.0, "subscription": ADA})]
    hazards = TurnHazards(crash=0.01, second=0.05)
    explore_turns(RenewalsCustomer, "ada", calls, check, port=port, seeds=range(60), hazards=hazards)


@pytest.fixture
def worker(tmp_path):
    """
    Runs ``renewals_worker.py`` on a book of two customers; its exit code and what it printed.
    """
    file = tmp_path / "book.json"
    grace = {**ADA, "customer": "grace", "periods": 2}
    file.write_text(json.dumps({"every": 0.3, "subscriptions": [ADA, grace]}), encoding="utf-8")

    def run(address, point, count):
        script = str(Path(__file__).with_name("renewals_worker.py"))
        env = {name: value for name, value in os.environ.items() if not name.startswith("DAPR_")}
        ended = subprocess.run(
            [sys.executable, script, address, str(file), point, str(count)],
            env={**env, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
            timeout=150,
            check=False,
        )
        return ended.returncode, ended.stdout

    return run


CHARGED = {"ok": True, "customers": 2, "done": 2, "periods": 5, "charges": 5, "wrong": {}}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_one_charge_per_period_through_kills(daprd, worker):
    """
    The worker dies in the turn of a reminder, which is delivered again, and behind a charge; a rerun charges nothing.
    """
    sidecar = daprd(workflows=True, app_id="renewals")
    for point, count in (("turn", 2), ("commit", 2)):
        assert (-signal.SIGKILL, "") == worker(sidecar.grpc_endpoint, point, count)
    for _ in range(2):
        code, printed = worker(sidecar.grpc_endpoint, "never", 0)
        assert (0, CHARGED) == (code, json.loads(printed))


def test_the_sample_is_charged():
    """
    The sample data are a book that can be read.
    """
    plan = RENEWALS.plan(RENEWALS.sample_text())
    assert ["renewals-ada", "renewals-blaise", "renewals-grace"] == [job.instance_id for job in plan.jobs]
