"""
A real contest through the store: its lines fit the schema, and every loser finds its winner.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from tests.log.conftest import lines_of
from tests.log.test_record import _fits
from toolkit import StateStore, log_to
from toolkit.core.model import Reply, Write
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


class Deaf(MemoryStore):
    """
    A store whose first conditional write takes effect and is answered as if it had come too late.
    """

    heard = False

    def put(self, write: Write, *, timeout: float) -> Reply:
        reply = super().put(write, timeout=timeout)
        if write.etag and not self.heard and reply.code == "OK":
            self.heard = True
            return Reply("ABORTED", "possible etag mismatch")
        return reply


def test_bare_values_join_by_their_race(tmp_path: Path):
    """
    A list has no stamp to tell who wrote it; that does not make its writers outsiders.
    """
    port = MemoryStore(profile="sqlite")
    with (
        log_to(tmp_path / "occ.jsonl") as log,
        StateStore("statestore", port=port) as store,
        StateStore("statestore", port=port) as rival,
    ):
        store.create("k", [1])
        met: list[bool] = []

        def beaten(held: list[int]) -> list[int]:
            if not met:
                met.append(True)
                one = threading.Thread(target=rival_appends, args=(rival,))
                one.start()
                one.join()
            return [*held, 3]

        store.update("k", beaten)
    (conflict,) = [line for line in lines_of(log.path) if line["event"] == "occ.conflict"]
    assert "winner_kind" not in conflict
    assert list(review([log.path]).pairs) == [(conflict["writer"], "rival")]


def rival_appends(rival: StateStore) -> None:
    with bind(writer="rival"):
        rival.update("k", lambda held: [*held, 2])


def test_a_loss_to_the_own_write_is_told(tmp_path: Path):
    """
    A value without a stamp that equals what was sent: ``maybe_self``, which the advice asks for; stamped ones know better.
    """
    with log_to(tmp_path / "occ.jsonl") as log:
        for value in ([1], {"n": 1}):
            with StateStore("statestore", port=Deaf(profile="sqlite")) as store:
                store.create("k", value)
                store.update("k", lambda held: [*held, 2] if isinstance(held, list) else {"n": 2})
    conflicts = [line for line in lines_of(log.path) if line["event"] == "occ.conflict"]
    assert [(line["maybe_self"], line["bytes"], line["seen_etag"] != "absent") for line in conflicts] == [
        (True, 5, True)
    ]


def test_a_transaction_tells_its_isolation_and_every_race(tmp_path: Path):
    """
    One race and one ETag per key, so that sampling keeps a transaction with those it beat.
    """
    port = MemoryStore(profile="sqlite")
    with log_to(tmp_path / "occ.jsonl") as log, StateStore("statestore", port=port) as store:
        store.create("a", {"n": 1})
        store.transact(lambda tx: [tx.put(key, {"n": 2}) for key in ("a", "b")] and None)
        store.delete("a")
        store.create("a", {"n": 3})
    create, both, _, again = [line for line in lines_of(log.path) if line["event"] == "occ.committed"]
    assert both["isolation"] == "serializable"
    assert both["keys"] == ["a", "b"]
    assert (len(both["races"]), both["base_etags"][1]) == (2, "absent")
    assert create["base_etag"] == "absent"
    assert again["incarnation"]
    assert again["base_etag"] != "absent"


def test_a_read_that_moved_is_named(tmp_path: Path):
    """
    A body that saw a mixture lost to somebody, on some key: a read-only audit tells both, as a writer does.
    """
    port = MemoryStore(profile="sqlite")
    with (
        log_to(tmp_path / "occ.jsonl") as log,
        StateStore("statestore", port=port) as store,
        StateStore("statestore", port=port) as rival,
    ):
        for key in ("a", "b"):
            store.create(key, {"n": 0})
        for writes in (False, True):
            met: list[bool] = []

            def audit(tx: Any, met: list[bool] = met, writes: bool = writes) -> int:
                total = int(tx.get("b")["n"])
                if not met:
                    met.append(True)
                    one = threading.Thread(target=rival_counts, args=(rival,))
                    one.start()
                    one.join()
                total += int(tx.get("a")["n"])
                if writes:
                    tx.put("sum", {"n": total})
                return total

            store.transact(audit)
    conflicts = [line for line in lines_of(log.path) if line["event"] == "occ.conflict"]
    assert [line["key"] for line in conflicts] == ["b", "b"]
    assert list(review([log.path]).pairs) == [(conflicts[0]["writer"], "rival")]


def rival_counts(rival: StateStore) -> None:
    with bind(writer="rival"):
        rival.update("b", lambda held: {"n": held["n"] + 1})
