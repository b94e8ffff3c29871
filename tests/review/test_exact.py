"""
Every number equals the simulator's truth.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.review.conftest import failed, lost, won, write
from toolkit.review import answers, series
from toolkit.review.checks import check
from toolkit.review.quick import RateCounter, TopCounter
from toolkit.review.run import pour, review
from toolkit.review.simulate import Truth, Workload, write_logs


def counts(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


def test_summary_is_the_truth(simulated: tuple[str, Truth]):
    """
    Operations, conflicts, give-ups and lost seconds.
    """
    path, truth = simulated
    found = answers.summary(review([path]))
    assert (found["committed"], found["conflicts"], found["gave_up"]) == (
        truth.committed,
        truth.conflicts,
        truth.gave_up,
    )
    assert found["operations"] == truth.committed + truth.gave_up
    assert found["lost_s"] == pytest.approx(truth.lost_s, abs=1e-3)
    assert found["basis"] == "lines"


def test_pairs_are_the_truth(simulated: tuple[str, Truth]):
    """
    Who lost to whom, the silent writer included, without one loss too many or too few.
    """
    path, truth = simulated
    found = {
        (row["loser"], row["winner"]): row["count"]
        for row in answers.pairs(review([path]), limit=10_000)["pairs"]
    }
    assert found == dict(truth.pairs)


def test_top_is_the_truth(simulated: tuple[str, Truth]):
    """
    Losses, commits and lost seconds of every key, in order; the fast counter and the whole review agree.
    """
    path, truth = simulated
    fast = pour([path], TopCounter()).answer(limit=10_000)["keys"]
    whole = answers.top(review([path]), limit=10_000)["keys"]
    assert counts(fast, "key", "lost", "won", "gave_up") == counts(whole, "key", "lost", "won", "gave_up")
    assert {row["key"]: row["lost"] for row in fast if row["lost"]} == dict(truth.losses)
    assert {row["key"]: row["won"] for row in fast} == {row["key"]: truth.wins[row["key"]] for row in fast}
    for row in fast:
        assert row["lost_s"] == pytest.approx(truth.lost_s_by_key[row["key"]], abs=1e-4)
    assert sum(row["share"] for row in fast) == pytest.approx(1.0, abs=1e-3)


def test_attempts_are_the_truth(simulated: tuple[str, Truth]):
    """
    Committed and lost by attempt number.
    """
    path, truth = simulated
    found = series.attempts(review([path]))
    assert {row["attempt"]: row["committed"] for row in found["attempts"] if row["committed"]} == dict(
        truth.won_at
    )
    assert {row["attempt"]: row["lost"] for row in found["attempts"] if row["lost"]} == dict(truth.lost_at)
    assert found["limits"][0] == {"max_attempts": 1, "gave_up": truth.lost_at[1]}


def test_predicted_give_ups_are_the_give_ups(simulated: tuple[str, Truth]):
    """
    At the limit the run had, the prediction is what happened; at a lower one, what would have.
    """
    path, truth = simulated
    found = review([path])
    assert series.predicted(found, 5) == truth.gave_up
    assert series.predicted(found, 2) == truth.lost_at[2]
    assert series.predicted(found, 9) < truth.gave_up


@pytest.mark.parametrize("every", [0.01, 0.1, 0.5, 1.0, 7.0])
def test_rates_add_up(simulated: tuple[str, Truth], every: float):
    """
    Whatever the step, the buckets hold every event once.
    """
    path, truth = simulated
    counter = pour([path], RateCounter(every))
    rows = counter.answer()["rates"]
    assert sum(row["conflicts"] for row in rows) == truth.conflicts
    assert sum(row["commits"] for row in rows) == truth.committed
    assert sum(row["gave_up"] for row in rows) == truth.gave_up
    assert sum(row["lost_s"] for row in rows) == pytest.approx(truth.lost_s, abs=1e-2)
    # Times have microseconds, and a line that ends in zeros lies just in its bucket.
    starts = [row["at"] for row in rows]
    assert starts == sorted(starts)


def test_heat_holds_every_loss(simulated: tuple[str, Truth]):
    """
    A row of the heat map adds up to the losses of its key.
    """
    path, truth = simulated
    for row in series.heat(review([path]), rows=100)["rows"]:
        assert sum(row["cells"]) == row["lost"] == truth.losses[row["key"]]


def test_latency_holds_every_operation(simulated: tuple[str, Truth]):
    """
    The grid of durations counts each operation that ended once.
    """
    path, truth = simulated
    assert sum(map(sum, series.latency(review([path]))["cells"])) == truth.committed + truth.gave_up


def test_give_ups_have_their_stories(simulated: tuple[str, Truth]):
    """
    Each operation that gave up tells all its attempts, each with a winner.
    """
    path, truth = simulated
    found = series.gave_up(review([path]), limit=1_000)
    assert found["all"] == truth.gave_up == len(found["gave_up"])
    for row in found["gave_up"]:
        assert [step["attempt"] for step in row["steps"]] == [1, 2, 3, 4, 5]
        assert all(step["winner"] for step in row["steps"])


def split(path: Path, workload: Workload) -> tuple[list[str], Truth]:
    files = {writer: str(path / f"occ-{writer}.jsonl") for writer in range(workload.writers)}
    return list(files.values()), write_logs(workload, files)


@pytest.mark.parametrize("stamped", [True, False], ids=["stamped", "unstamped"])
def test_several_files_join(tmp_path: Path, *, stamped: bool):
    """
    One file per process gives the same pairs as one for all, by write id or, without stamps, by race.
    """
    files, truth = split(tmp_path, Workload(operations=3_000, keys=20, rate=600.0, stamped=stamped))
    found = review([str(tmp_path)])
    assert {pair: count for pair, (count, _) in found.pairs.items()} == dict(
        truth.pairs if stamped else truth.direct
    )
    assert found.intake.files == files


def test_check_counts_the_same(simulated: tuple[str, Truth]):
    """
    The gate sees the same conflicts and give-ups.
    """
    path, truth = simulated
    found = check(pour([path], RateCounter()), {"max-conflicts": 0, "max-gave-up": 1e9, "min-operations": 1})
    values = {row["rule"]: row["value"] for row in found["rules"]}
    assert (values["max-conflicts"], values["max-gave-up"]) == (truth.conflicts, truth.gave_up)
    assert [row["passed"] for row in found["rules"]] == [False, True, True]


@pytest.mark.parametrize(
    "read",
    [lambda path: answers.summary(review([path])), lambda path: pour([path], TopCounter()).answer()],
    ids=["review", "top"],
)
def test_reading_twice_is_reading_once(simulated: tuple[str, Truth], read: Callable[[str], Any]):
    """
    Nothing depends on what was read before.
    """
    path, _ = simulated
    assert read(path) == read(path)


def test_lines_of_all_kinds_in_one_moment(tmp_path: Path):
    """
    Two stores, sampled and whole lines, updates carried by one write, all within a tenth of a second: each counts as it must.
    """
    lines: list[dict[str, Any]] = []
    for n in range(40):
        store = f"s{n % 2}"
        lines.append(won(1, key="k", store=store, race=f"{n:016x}", write_id=f"aa-{n:x}", combined=1 + n % 3))
        more = {"winner": f"aa-{n:x}", "call_id": f"{n:016x}"} | ({"sample": 0.5} if n % 4 == 0 else {})
        lines.append(lost(1, key="k", store=store, attempt=1 + n % 2, **more))
    lines += [failed(1, key="k", store="s0", call_id=f"{n:016x}") for n in (0, 2)]
    found = review([write(tmp_path / "log", lines)])
    rows = {row["store"]: row for row in answers.top(found)["keys"]}
    assert (rows["s0"]["lost"], rows["s1"]["lost"]) == (30, 20)
    assert (rows["s0"]["won"], rows["s1"]["won"]) == (20, 20)
    assert found.totals.updates == sum(1 + n % 3 for n in range(40))
    assert found.lost_at[1:3] == [30, 20]
    assert [len(losses) for _, losses in found.stories] == [1, 1]
    assert found.pairs == {("b", "a"): [50, pytest.approx(0.1)]}
