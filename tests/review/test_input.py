"""
Bad input is counted, named and survived.
"""

from __future__ import annotations

import gzip
import json
import sys
import tracemalloc
from pathlib import Path

import pytest

from tests.review.conftest import lost, won, write
from toolkit.review import answers
from toolkit.review.query import Query, conditions, moment, seconds_in
from toolkit.review.quick import TopCounter
from toolkit.review.reading import InputError, expand
from toolkit.review.run import pour, review
from toolkit.review.tally import KeyTable

GOOD = [won(1, write_id="aa-1"), lost(2, winner="aa-1")]
BAD: dict[str, tuple[list[bytes | str], dict[str, int]]] = {
    "torn": ([json.dumps(GOOD[0])[:80], '{"event": "occ.conflict"'], {"torn": 2}),
    "foreign text": (["GET / 200", "", "[1, 2]", "null", "17"], {"foreign": 4}),
    "foreign JSON": (['{"event": "started", "timestamp": "x"}', '{"msg": "hi"}', '{"event": 7}'], {"foreign": 3}),
    "later version": ([json.dumps(GOOD[0] | {"v": 2}), json.dumps(GOOD[0] | {"v": 3, "event": "occ.novelty"})], {"future": 2}),
    "wrong types": ([json.dumps(GOOD[0] | {"key": 7}), json.dumps(GOOD[0] | {"lost_s": "much"})], {"torn": 2}),
    "not UTF-8": ([b'{"event": "occ.conflict", "timestamp": "\xff\xfe"}', b"\xff\xfe\x00"], {"torn": 1, "foreign": 1}),
    "deeply nested": (["[" * 100_000], {"foreign": 1}),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("fast", [False, True], ids=["review", "top"])
def test_bad_lines_are_counted_and_left_out(tmp_path: Path, kind: str, *, fast: bool):
    """
    Good lines around bad ones are all read, and the footer says how many of each kind there were.
    """
    bad, wanted = BAD[kind]
    path = write(tmp_path / "log.jsonl", [GOOD[0], *bad, GOOD[1], *bad])
    intake = pour([path], TopCounter()).intake if fast else review([path]).intake
    found = {name: getattr(intake, name) for name in ("torn", "foreign", "future", "oversized")}
    assert intake.events == 2
    assert {name: count for name, count in found.items() if count} == {
        name: 2 * count for name, count in wanted.items()
    }


def test_a_line_of_ten_megabytes_is_skipped(tmp_path: Path):
    """
    It is counted, not held in memory, and the next line is read.
    """
    huge = json.dumps(GOOD[0] | {"key": "x" * 10_000_000})
    path = write(tmp_path / "log.jsonl", [GOOD[0], huge, GOOD[1]])
    tracemalloc.start()
    intake = review([path]).intake
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (intake.events, intake.oversized) == (2, 1)
    assert peak < 8_000_000


def test_a_last_line_without_newline_counts(tmp_path: Path):
    """
    Whole, it is an event; cut short, it is torn.
    """
    whole = json.dumps(GOOD[0]).encode()
    (tmp_path / "whole").write_bytes(whole)
    (tmp_path / "torn").write_bytes(whole + b"\n" + whole[:50])
    assert review([str(tmp_path / "whole")]).intake.events == 1
    torn = review([str(tmp_path / "torn")]).intake
    assert (torn.events, torn.torn) == (1, 1)


def test_gzip_is_read_by_content(tmp_path: Path):
    """
    A compressed file needs no suffix; one cut short is read up to there and named.
    """
    raw = b"".join(
        json.dumps(won(n / 100, write_id=f"aa-{n}", key=f"k{n * 7919}")).encode() + b"\n"
        for n in range(5_000)
    )
    packed = gzip.compress(raw)
    (tmp_path / "log").write_bytes(packed)
    (tmp_path / "cut.gz").write_bytes(packed[: len(packed) // 2])
    assert review([str(tmp_path / "log")]).intake.events == 5_000
    cut = review([str(tmp_path / "cut.gz")]).intake
    assert 0 < cut.events < 5_000
    assert "cut.gz" in cut.problems[0]


def test_zstd_is_read_where_its_library_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """
    With zstandard the file is read, a broken one up to where it breaks; without, the message says what to install.
    """
    zstandard = pytest.importorskip("zstandard", reason="needs zstandard")
    packed = zstandard.compress(json.dumps(GOOD[0]).encode())
    (tmp_path / "log.zst").write_bytes(packed)
    (tmp_path / "bad.zst").write_bytes(packed[:6] + b"\xff" * 40)
    assert review([str(tmp_path / "log.zst")]).intake.events == 1
    assert "bad.zst" in review([str(tmp_path / "bad.zst")]).intake.problems[0]
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(InputError, match="pip install zstandard"):
        review([str(tmp_path / "log.zst")])


def test_empty_input_is_an_answer(tmp_path: Path):
    """
    No event is no error: everything is zero.
    """
    path = write(tmp_path / "log.jsonl", [])
    found = answers.summary(review([path]))
    assert (found["events"], found["operations"], found["conflict_ratio"], found["worst_key"]) == (
        0,
        0,
        0.0,
        None,
    )
    assert found["span"]["first"] is None


def test_a_file_that_vanishes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """
    Between listing and opening a file can be rotated away; the others are read.
    """
    write(tmp_path / "a.jsonl", GOOD)
    write(tmp_path / "b.jsonl", GOOD)
    names = expand([str(tmp_path)])
    (tmp_path / "a.jsonl").unlink()
    monkeypatch.setattr("toolkit.review.run.expand", lambda _: names)
    intake = review([str(tmp_path)]).intake
    assert intake.events == 2
    assert "a.jsonl" in intake.problems[0]


def test_names_that_lead_nowhere_are_told(tmp_path: Path):
    """
    A missing file and a directory without logs are the user's mistake, with a hint.
    """
    with pytest.raises(InputError, match="no such file"):
        review([str(tmp_path / "none.jsonl")])
    with pytest.raises(InputError, match="without a conflict log"):
        review([str(tmp_path)])


def test_files_are_merged_by_time(tmp_path: Path):
    """
    Two files whose times interleave are one story, whichever is named first.
    """
    many = 1_500
    a = write(tmp_path / "a", [won(n, write_id=f"aa-{n:x}", writer="a") for n in range(many)])
    b = write(tmp_path / "b", [lost(n + 0.5, winner=f"aa-{n:x}") for n in range(many)])
    for files in ([a, b], [b, a]):
        assert {pair: count for pair, (count, _) in review(files).pairs.items()} == {("b", "a"): many}


def test_memory_does_not_grow_with_the_log(tmp_path: Path):
    """
    Ten times the lines on the same keys need about the same memory.
    """

    def peak(lines: int) -> int:
        path = write(
            tmp_path / f"{lines}",
            [won(n / 50, key=f"k{n % 50}", write_id=f"aa-{n:x}", race=f"{n:016x}") for n in range(lines)],
        )
        tracemalloc.start()
        review([path])
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    assert peak(30_000) < 1.6 * peak(6_000)


def test_keys_beyond_the_limit_are_counted_together():
    """
    The most contended keys stay, exact; the rest is a sum with a known error.
    """
    table = KeyTable(limit=100)
    for n in range(5_000):
        row = table.add(f"rare-{n}", "s")
        row.wins += 1
        hot = table.add("hot", "s")
        hot.losses += 1
    assert len(table.rows) <= 100
    assert table.rows["hot"].losses == 5_000
    assert table.evicted + len(table.rows) == 5_001
    assert (table.largest_evicted, table.rest.wins + sum(row.wins for row in table.all())) == (0, 5_000)


def test_one_key_in_two_stores_is_two_rows(tmp_path: Path):
    """
    A key belongs to its store.
    """
    rows = answers.top(
        review([write(tmp_path / "log", [lost(1, store="s"), lost(2, store="t"), lost(3, store="t")])])
    )["keys"]
    assert sorted((row["store"], row["lost"]) for row in rows) == [("s", 1), ("t", 2)]


def test_lines_of_several_keys_count_for_the_first(tmp_path: Path):
    """
    A transaction's loss belongs to its first key, also after lines that have no key at all.
    """
    summary = {"v": 1, "event": "occ.summary", "timestamp": "2026-01-05T09:00:00.000000Z", "ops": 1}
    lines = [summary, won(1, key="", keys=["k", "l"]), lost(2, key="", keys=["k", "l"]), lost(3, key="k")]
    path = write(tmp_path / "log", lines)
    for rows in (pour([path], TopCounter()).answer()["keys"], answers.top(review([path]))["keys"]):
        assert [(row["key"], row["lost"]) for row in rows] == [("k", 2)]
    assert pour([path], TopCounter(), Query(key="l")).answer()["keys"][0]["lost"] == 1


def test_queries_narrow(tmp_path: Path):
    """
    Time, globs and any bound field; all must hold.
    """
    lines = [
        lost(n, key=f"order-{n}", workflow_id=f"w{n % 2}", tenant={"a": 1} if n == 9 else n)
        for n in range(10)
    ]
    path = write(tmp_path / "log", lines)

    def kept(**query: object) -> float:
        return review([path], query=Query(**query)).conflicts  # type: ignore[arg-type]

    assert kept(since=moment("2026-01-05T09:00:03Z"), until=moment("2026-01-05T09:00:05Z")) == 2
    assert kept(key="order-[0-3]") == 4
    assert kept(where={"workflow_id": "w1"}) == 5
    assert kept(where={"workflow_id": "w1", "tenant": "3"}) == 1
    assert kept(writer="nobody") == 0


def test_fields_can_be_renamed(tmp_path: Path):
    """
    A log whose names an application changed is read with ``--map``.
    """
    line = {
        ("msg" if name == "event" else "time" if name == "timestamp" else name): value
        for name, value in lost(1).items()
    }
    path = write(tmp_path / "log", [line])
    assert review([path]).intake.foreign == 1
    assert review([path], query=Query(rename={"msg": "event", "time": "timestamp"})).conflicts == 1


@pytest.mark.parametrize("text", ["soon", "25:99", "2026-13-01", "-5x"])
def test_moments_that_make_no_sense_are_told(text: str):
    """
    The message shows how to write one.
    """
    with pytest.raises(InputError, match="yesterday"):
        moment(text)


def test_moments_and_lengths():
    """
    Relative and absolute times, and lengths of time.
    """
    from datetime import UTC, datetime

    now = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
    assert now.timestamp() - moment("-15m", now) == 900
    assert moment("yesterday", now) == datetime(2026, 1, 4, tzinfo=UTC).timestamp()
    assert moment("08:30", now) == now.timestamp() - 1800
    assert [seconds_in(text) for text in ("100ms", "2", "5m", "1h")] == [0.1, 2.0, 300.0, 3600.0]
    with pytest.raises(InputError):
        conditions(["workflow"])
