"""
A real contest through the store: its lines fit the schema, and every loser finds its winner.
"""

from __future__ import annotations

import threading
from pathlib import Path

from tests.log.conftest import lines_of
from tests.log.test_record import _fits
from toolkit import StateStore, log_to
from toolkit.log import bind
from toolkit.review import answers, schema
from toolkit.review.run import review
from toolkit.testing import MemoryStore

WRITERS, EACH = 4, 10


def contest(path: Path) -> str:
    # A store object per thread: one object would carry all updates in one write and meet nobody.
    port, barrier = MemoryStore(profile="sqlite"), threading.Barrier(WRITERS)

    def write(name: str) -> None:
        with StateStore("statestore", port=port) as store, bind(writer=name):
            for n in range(EACH):
                met = [False]

                def change(value: dict[str, int], met: list[bool] = met) -> dict[str, int]:
                    # All have read before anybody writes: three of four lose their first attempt.
                    if not met[0]:
                        met[0] = True
                        barrier.wait(30)
                    return {"n": value["n"] + 1}

                store.update("hits", change, default={"n": 0}, op_id=f"{name}-{n}")

    with log_to(path, app="shop") as log:
        threads = [threading.Thread(target=write, args=(f"w{n}",)) for n in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return log.path


def test_losers_find_their_winners(tmp_path: Path):
    """
    Every update has its commit line, every conflict names a write that was logged, and the review pairs them all.
    """
    path = contest(tmp_path / "occ.jsonl")
    lines = lines_of(path)
    commits = [line for line in lines if line["event"] == "occ.committed"]
    conflicts = [line for line in lines if line["event"] == "occ.conflict"]
    assert sum(line["combined"] for line in commits) == WRITERS * EACH
    assert len(conflicts) >= (WRITERS - 1) * EACH
    assert {line["winner"] for line in conflicts} <= {line["write_id"] for line in commits}
    found = review([path])
    assert answers.summary(found)["updates"] == WRITERS * EACH
    assert sum(count for count, _ in found.pairs.values()) == len(conflicts) == found.conflicts
    assert {winner for _, winner in found.pairs} <= {f"w{n}" for n in range(WRITERS)}


def test_the_store_writes_what_the_schema_says(tmp_path: Path):
    """
    Line by line, field by field.
    """
    kinds = {kind["title"]: kind for kind in schema.json_schema()["oneOf"]}
    for line in lines_of(contest(tmp_path / "occ.jsonl")):
        assert _fits(line, kinds[line["event"]]) == []
