"""
Two runs: a real change is clear, the same load twice is not.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.review.checks import check, limit
from toolkit.review.diff import diff
from toolkit.review.quick import RateCounter
from toolkit.review.reading import InputError
from toolkit.review.run import pour, review
from toolkit.review.simulate import Workload, write_logs


def run(path: Path, **change: object) -> str:
    write_logs(Workload(**({"operations": 4_000, "keys": 30, "rate": 300.0} | change)), str(path))  # type: ignore[arg-type]
    return str(path)


def figures(before: str, after: str) -> dict[str, dict[str, float]]:
    return {row["figure"]: row for row in diff(review([before]), review([after]))["figures"]}


def test_more_load_is_a_clear_change(tmp_path: Path):
    """
    At a higher rate conflicts rise beyond chance, and the interval holds the change.
    """
    found = figures(run(tmp_path / "a"), run(tmp_path / "b", rate=600.0, seed=2))
    ratio = found["conflict_ratio"]
    assert ratio["clear"]
    assert ratio["low"] < ratio["change"] < ratio["high"]
    assert ratio["low"] > 0


@pytest.mark.parametrize("seed", [2, 3, 4, 5, 6])
def test_the_same_load_is_hardly_a_change(tmp_path: Path, seed: int):
    """
    Another run of the same workload is within its own noise.
    """
    found = figures(run(tmp_path / "a"), run(tmp_path / "b", seed=seed))
    assert not found["conflict_ratio"]["clear"]


def test_keys_are_new_gone_worse_better(tmp_path: Path):
    """
    Keys are compared one by one, with the noise of each.
    """
    before, after = run(tmp_path / "a", skew=1.2), run(tmp_path / "b", skew=0.6, keys=60, seed=2)
    verdicts = {
        row["key"]: row["verdict"] for row in diff(review([before]), review([after]), limit=100)["keys"]
    }
    assert verdicts["order-0"] == "better"
    assert "new" in verdicts.values()


def test_a_run_against_itself_is_the_same(tmp_path: Path):
    """
    Nothing changes where nothing changed.
    """
    path = run(tmp_path / "a")
    found = diff(review([path]), review([path]))
    assert [row["change"] for row in found["figures"]] == [0.0] * 5
    assert {row["verdict"] for row in found["keys"]} == {"same"}


def test_limits_are_read_and_held(tmp_path: Path):
    """
    Shares and numbers; a rule that is broken fails the run.
    """
    counter = pour([run(tmp_path / "a")], RateCounter())
    assert check(counter, {"max-conflict-ratio": limit("90%")})["passed"]
    assert not check(counter, {"max-conflict-ratio": limit("0.01")})["passed"]
    with pytest.raises(InputError, match="1%"):
        limit("few")


def test_an_empty_log_passes_no_rule(tmp_path: Path):
    """
    A gate that saw nothing must not open.
    """
    (tmp_path / "empty.jsonl").touch()
    assert not check(pour([str(tmp_path / "empty.jsonl")], RateCounter()), {"max-gave-up": 0})["passed"]


def test_the_figures_are_those_of_the_whole_run(tmp_path: Path):
    """
    However the run is cut into slices, before and after are the ratios and rates that ``summary`` tells.
    """
    path = run(tmp_path / "a", operations=1_234, rate=77.0)
    found = diff(review([path]), review([path]))
    rows = {row["figure"]: row for row in found["figures"]}
    whole = found["before"]
    assert rows["conflict_ratio"]["before"] == pytest.approx(whole["conflict_ratio"], abs=1e-6)
    assert rows["conflicts_per_s"]["before"] == pytest.approx(
        whole["conflicts"] / whole["span"]["seconds"], rel=0.02
    )
