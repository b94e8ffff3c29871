"""
Hosts whose clocks disagree: losers still find their winners, and the log says how far apart they are at least.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.review.conftest import lost, won, write
from toolkit.review import answers
from toolkit.review.clocks import Clocks, host_of
from toolkit.review.run import review
from toolkit.review.simulate import Workload, write_logs

CLOCKS = (0.0, 0.4, -30.0, 0.0)


@pytest.mark.parametrize("stamped", [True, False], ids=["stamped", "unstamped"])
def test_clocks_that_disagree_change_no_pair(tmp_path: Path, *, stamped: bool):
    """
    Half a minute apart, one file per host: every loss is matched with its true winner.
    """
    load = Workload(operations=4_000, keys=20, rate=100.0, stamped=stamped, clocks=CLOCKS)
    truth = write_logs(load, {writer: str(tmp_path / f"{writer}.jsonl") for writer in range(4)})
    found = {pair: count for pair, (count, _) in review([str(tmp_path)]).pairs.items()}
    assert found == dict(truth.pairs if stamped else truth.direct)


def test_the_difference_is_told(tmp_path: Path):
    """
    A lower bound for each pair of hosts that met, close to the truth after many meetings; never more than the truth.
    """
    load = Workload(operations=4_000, keys=20, rate=100.0, clocks=CLOCKS)
    write_logs(load, {writer: str(tmp_path / f"{writer}.jsonl") for writer in range(4)})
    rows = answers.summary(review([str(tmp_path)]))["read"]["clocks"]
    found = {(row["ahead"], row["behind"]): row["by_s"] for row in rows}
    real = {f"host-{writer}": ahead for writer, ahead in enumerate(CLOCKS)}
    assert all(by_s <= real[ahead] - real[behind] + 1e-6 for (ahead, behind), by_s in found.items())
    assert found["host-1", "host-0"] == pytest.approx(0.4, abs=0.1)
    assert found["host-0", "host-2"] == pytest.approx(30.0, abs=0.1)
    assert ("host-0", "host-3") not in found
    assert ("host-2", "host-1") not in found


def test_one_file_of_several_hosts_tells_it_too(tmp_path: Path):
    """
    Where all append to one file, the winner's line comes first although its time is later.
    """
    lines = [
        won(9.0, inst="a:1", write_id="aa-1"),
        lost(8.8, inst="b:1", winner="aa-1", winner_kind="committed"),
    ]
    clocks = review([write(tmp_path / "log", lines)]).clocks
    assert clocks.noticeable() == [("a", "b", pytest.approx(0.2))]


def test_processes_of_one_host_share_a_clock(tmp_path: Path):
    """
    Between them a late line only shows who was slow to write it.
    """
    lines = [won(9.0, inst="a:1", write_id="aa-1"), lost(8.0, inst="a:2", winner="aa-1")]
    assert review([write(tmp_path / "log", lines)]).clocks.noticeable() == []


def test_hosts_are_known_by_their_instances():
    """
    ``host:pid`` is a process of a host; a pod's name is its own host.
    """
    assert [host_of(name) for name in ("vm-1:77", "orders-5d4f", "[::1]:8", "")] == [
        "vm-1",
        "orders-5d4f",
        "[::1]",
        "",
    ]


def test_memory_of_clocks_is_bounded():
    """
    Of a long log only a few blocks are looked at, and few of them are held.
    """
    clocks, held, looked = Clocks(), 0, 0
    for _ in range(10_000):
        if clocks.due():
            looked += 1
            clocks.look([])
        held = max(held, len(clocks.recent))
    assert looked < 1_000
    assert held == 0
