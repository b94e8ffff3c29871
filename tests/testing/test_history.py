"""
Histories survive threads, processes and kills, and come back as they were written.
"""

from __future__ import annotations

import json
import multiprocessing
import threading
from pathlib import Path

import pytest

from toolkit.testing.history import History, Op, export, load, parse


def test_an_operation_is_one_line_in_the_documented_form(tmp_path: Path) -> None:
    """The finished line has the members of the format, in whole."""
    clock = iter(range(100, 200, 10))
    with History(tmp_path / "h.jsonl", clock=lambda: next(clock)) as history:
        history.call("w1", "cas", "k4", [7, 8], store="redis").ok(True, op="u-1")
    first, last = map(json.loads, (tmp_path / "h.jsonl").read_text().splitlines())
    assert first.pop("type") == "invoke"
    assert last == {
        "id": first["id"],
        "proc": "w1",
        "f": "cas",
        "key": "k4",
        "arg": [7, 8],
        "store": "redis",
        "op": "u-1",
        "out": True,
        "type": "ok",
        "call": 100,
        "ret": 110,
    }


def test_the_three_outcomes_come_back(tmp_path: Path) -> None:
    """ok, fail and info are read as they were written, in the order of the calls."""
    clock = iter(range(10))
    path = tmp_path / "h.jsonl"
    with History(path, clock=lambda: next(clock)) as history:
        history.header(seed=7)
        first = history.call(1, "inc", "k", 1)
        second = history.call(2, "read", "k")
        second.ok(5, fault="drop_reply")
        first.info()
        history.call(3, "del", "k").fail()
    ids = [op.id for op in load(path)]
    assert load(path) == [
        Op(ids[0], 1, "inc", "info", 0, 3, "k", 1),
        Op(ids[1], 2, "read", "ok", 1, 2, "k", None, 5, (), {"fault": "drop_reply"}),
        Op(ids[2], 3, "del", "fail", 4, 5, "k"),
    ]
    assert parse(path.read_text().splitlines())[1] == [{"type": "header", "seed": 7}]


def test_an_export_has_one_line_for_each_operation(tmp_path: Path) -> None:
    """A header, then every operation once, as it ended; exports of several runs follow each other in one file."""
    clock = iter(range(10))
    path, target = tmp_path / "h.jsonl", tmp_path / "all.jsonl"
    with History(path, clock=lambda: next(clock)) as history:
        history.transaction("w1", [["r", "x", None], ["append", "x", 9]], op="u-1").ok(
            mops=[["r", "x", [7]], ["append", "x", 9]]
        )
        history.call("w2", "read", "k")
    export(path, target, seed=7)
    export(path, target, seed=8)
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    for row in rows:
        row.pop("id", None)
    once = [
        {"proc": "w1", "f": "txn", "mops": [["r", "x", [7]], ["append", "x", 9]], "type": "ok", "call": 0, "ret": 1, "op": "u-1"},
        {"proc": "w2", "f": "read", "key": "k", "arg": None, "out": None, "type": "info", "call": 2, "ret": None},
    ]  # fmt: skip
    assert rows == [{"type": "header", "seed": 7}, *once, {"type": "header", "seed": 8}, *once]


def test_a_call_that_never_ended_is_info(tmp_path: Path) -> None:
    """What a killed process had under way is in the history, without an end."""
    path = tmp_path / "h.jsonl"
    with History(path) as history:
        history.call(1, "inc", "k", 1)
    (op,) = load(path)
    assert (op.type, op.ret) == ("info", None)


def test_transactions_carry_their_reads(tmp_path: Path) -> None:
    """The final line has the operations with what the reads saw."""
    path = tmp_path / "h.jsonl"
    with History(path) as history:
        history.transaction(1, [["r", "x", None], ["append", "y", 9]]).ok(
            mops=[["r", "x", [1, 2]], ["append", "y", 9]]
        )
        history.transaction(1, [["append", "y", 10]]).info()
    done, lost = load(path)
    assert done.mops == (("r", "x", [1, 2]), ("append", "y", 9))
    assert (lost.type, lost.mops) == ("info", (("append", "y", 10),))


def test_a_line_cut_at_the_end_is_left_out_and_one_in_the_middle_is_an_error() -> None:
    """A kill may cut the last line; anything else is damage."""
    whole = '{"id":1,"f":"read","key":"k","type":"ok","call":1,"ret":2}'
    assert len(parse([whole, '{"id":2,"f"'])[0]) == 1
    with pytest.raises(ValueError, match="line 1 of the history is not JSON"):
        parse(['{"id":2,"f"', whole])
    with pytest.raises(ValueError, match="has no call"):
        parse(['{"id":1,"f":"read","type":"ok"}'])


def test_threads_share_a_recorder(tmp_path: Path) -> None:
    """No line is lost or mixed, and all ids differ."""
    path = tmp_path / "h.jsonl"
    with History(path) as history:

        def work(name: int) -> None:
            for turn in range(100):
                history.call(name, "write", "k", turn).ok()

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    ops = load(path)
    assert len({op.id for op in ops}) == 400
    assert all(op.type == "ok" and op.ret is not None and op.call <= op.ret for op in ops)


def record_some(path: Path, name: int) -> None:
    with History(path) as history:
        for turn in range(100):
            history.call(name, "write", f"k{turn}", "x" * 200).ok()


def test_processes_share_a_file(tmp_path: Path) -> None:
    """Processes that append to one path do not mix their lines or ids."""
    path = tmp_path / "h.jsonl"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=record_some, args=(path, name)) for name in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    ops = load(path)
    assert (len({op.id for op in ops}), {op.type for op in ops}) == (300, {"ok"})


def test_a_closed_recorder_refuses(tmp_path: Path) -> None:
    """Writing after close is an error, not a lost line."""
    history = History(tmp_path / "h.jsonl")
    history.close()
    with pytest.raises(RuntimeError, match="is closed"):
        history.call(1, "read", "k")
