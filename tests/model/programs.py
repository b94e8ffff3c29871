"""
The programs of the model: transactions, single updates, snapshots, voids, plain writers; and the judge of how they end.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tests.core.support import job, once, result_of
from tests.model.explorer import End, Explored, Explorer
from tests.model.network import Rows, alone
from toolkit.core.events import Event
from toolkit.core.jobs import Rules
from toolkit.core.model import ABSENT, CLEAR, DELETE, Outcome, Row, Write
from toolkit.core.policy import RetryPolicy
from toolkit.core.recovery import clear
from toolkit.core.settle import read
from toolkit.core.site import Site, Writers
from toolkit.core.snapshot import snapshot
from toolkit.core.steps import Get, Note, Put, Steps
from toolkit.core.transaction import Finished, Isolation, Options, TxRun
from toolkit.core.txreceipt import void_op
from toolkit.errors import OperationVoidedError, OutcomeUnknownError, StateError
from toolkit.testing.memory import profile_of

DEADLINE: Final = 10.0
Lists = dict[str, tuple[str, ...]]


def site_of(name: str, path: Any) -> Site:
    """A process that waits for no lease: anybody may decide at any time, and safety must not depend on it."""
    count = itertools.count()
    return Site(
        store="s",
        profile=profile_of("sqlite" if path == "native" else "redis"),
        rules=Rules(can_create=True, has_ttl=True, envelope=False),
        policy=RetryPolicy(deadline=DEADLINE),
        writers=Writers(lambda: f"{name}{next(count)}"),
        observed=lambda: False,
        lease=0.0,
        path=path,
    )


@dataclass(frozen=True)
class Program:
    """
    One call of one process.

    Attributes:
        reads: Keys it reads.
        appends: Keys to whose list it appends its name.
        finishes: It finishes its keys itself; else that is left to whoever comes by, as after a crash.
        value: What it appends, where that is not its name: attempts of one operation append the same.
    """

    name: str
    reads: tuple[str, ...] = ()
    appends: tuple[str, ...] = ()
    kind: str = "transact"
    path: str = "intents"
    op_id: str | None = None
    isolation: Isolation = "serializable"
    attempts: int = 1
    finishes: bool = False
    value: str = field(default="")

    @property
    def mark(self) -> str:
        return self.value or self.name

    def steps(self) -> Steps[None]:
        """The call, a report of what it heard, and what is done in the background."""
        site = site_of(self.name, self.path)
        match self.kind:
            case "transact":
                yield from self._transact(site)
            case "update" | "remove":
                yield from self._heard(self._update(site))
            case "snapshot":
                yield from self._heard(self._snapshot(site))
            case "void":
                yield from self._heard(self._void(site))
            case _:
                yield from self._plain(self.kind)

    def _heard(self, call: Steps[Any]) -> Steps[None]:
        try:
            result = yield from call
        except OutcomeUnknownError:
            yield from _report(self.name, "info", None)
        except StateError as error:
            kind = "void" if isinstance(error, OperationVoidedError) else "fail"
            yield from _report(self.name, kind, None)
        else:
            yield from _report(self.name, "ok", result)

    def _transact(self, site: Site) -> Steps[None]:
        options = Options("t", op_id=self.op_id, isolation=self.isolation, attempts=self.attempts)
        run = TxRun(site, options, 1000.0, DEADLINE, 0.0)
        yield from self._heard(self._loop(run))
        for later in run.later if self.finishes else ():
            yield from later(0.0)

    def _loop(self, run: TxRun) -> Steps[Any]:
        while True:
            done = yield from run.begin()
            if done is None:
                seen: dict[str, list[str]] = {}
                for key in self.reads:
                    found = yield from run.value(key)
                    seen[key] = [] if found is ABSENT else list(found["l"])
                for key in self.appends:
                    run.put(key, {"l": [*seen.get(key, []), self.mark]}, CLEAR)
                ended = yield from run.end(seen, None)
                done = ended if isinstance(ended, Finished) else None
            if done is not None:
                return done.result

    def _update(self, site: Site) -> Steps[Any]:
        """Append to the list under a key, or remove it; the result is what it was before."""
        (key,) = self.appends
        before: list[str] = []

        def change(value: Any) -> Any:
            before[:] = value["l"]
            return DELETE if self.kind == "remove" else {"l": [*value["l"], self.mark]}

        one = job("update", key, change=change, default={"l": []}, policy_attempts=1)
        writer = once(site, one, key=key)
        yield from writer.run()
        result = result_of(writer)
        if isinstance(result, BaseException):
            raise result
        return {key: list(before)}

    def _snapshot(self, site: Site) -> Steps[Any]:
        found = yield from snapshot(site, self.reads, DEADLINE)
        return {key: list(found[key]["l"]) if key in found else [] for key in self.reads}

    def _void(self, site: Site) -> Steps[Any]:
        assert self.op_id is not None
        return (yield from void_op(site, self.op_id, DEADLINE))

    def _plain(self, kind: str) -> Steps[None]:
        """A plain writer: it drops the stamp (d1, d3) or echoes it (d2, d3e), with the ETag or blindly (d3)."""
        (key,) = self.appends
        row = yield from Get(key)
        assert isinstance(row, Row)
        value = json.loads(row.data)
        seen = {key: list(value["l"])}
        value["l"].append(self.mark)
        if kind in ("d1", "d3"):
            value.pop("_occ", None)
        etag = row.etag if kind in ("d1", "d2") else None
        reply = yield from Put(Write(key, json.dumps(value).encode(), etag=etag))
        kinds = {"OK": "ok", "UNAVAILABLE": "info"}
        yield from _report(self.name, kinds.get(reply.code, "fail"), seen)


def _report(name: str, kind: str, result: Any) -> Steps[None]:
    yield from Note(Event("occ.committed", {"name": name, "kind": kind, "result": result}))


def audit(keys: tuple[str, ...]) -> Steps[Lists]:
    """Settle every key, as whoever comes next does."""
    site = site_of("audit", "intents")
    final: Lists = {}
    for key in keys:
        seen = yield from read(site, key, DEADLINE)
        seen = yield from clear(site, seen, None, DEADLINE)
        final[key] = () if seen.value is ABSENT else tuple(seen.value["l"])
    return final


def rows_of(keys: tuple[str, ...]) -> Rows:
    """Keys as a plain writer made them."""
    return tuple((key, b'{"l":[]}', 1) for key in sorted(keys))


def stamped_rows(keys: tuple[str, ...]) -> Rows:
    """Keys as the toolkit made them."""
    rows: Rows = ()
    for key in keys:
        writer = once(site_of("maker", "intents"), job("create", key, value={"l": []}), key=key)
        _, rows = alone(writer.run(), rows)
    return rows


class Judge:
    """
    What must hold at every end, once somebody has settled the keys.

    Writes landed whole or not at all and once for each operation; what was reported is true; some serial order of what
    took effect explains every read that was answered and the final values; and whoever came next could settle the keys.

    On *loose* keys plain writers write between the prepare of a transaction and its decision, which no protocol can
    prevent: there a transaction's own write may be lost, and nothing else.
    """

    def __init__(
        self, programs: tuple[Program, ...], keys: tuple[str, ...], loose: tuple[str, ...] = ()
    ) -> None:
        self.programs, self.keys = programs, keys
        self.strict = tuple(key for key in keys if key not in loose)
        self.known: dict[Any, list[str]] = {}

    def __call__(self, end: End) -> list[str]:
        heard: dict[str, tuple[str, Any]] = {}
        for reports in end.reports:
            for event in reports:
                heard[event.fields["name"]] = (event.fields["kind"], event.fields["result"])
        try:
            final, _ = alone(audit(self.keys), end.rows)
        except StateError as error:
            return [f"whoever comes next cannot go on: {error}"]
        mark = (tuple(final.items()), repr(sorted(heard.items())))
        if mark not in self.known:
            self.known[mark] = [
                f"{problem}: heard {heard}, found {final}" for problem in self._problems(heard, final)
            ]
        return self.known[mark]

    def _problems(self, heard: dict[str, tuple[str, Any]], final: Lists) -> list[str]:
        found: list[str] = []
        took: dict[str, Program] = {}
        for program in self.programs:
            if program.kind == "void":
                continue
            own = self._own(program)
            landed = [key for key in own if program.mark in final[key]]
            kind, _ = heard.get(program.name, ("info", None))
            if any(final[key].count(program.mark) > 1 for key in program.appends):
                found.append(f"{program.mark} applied twice")
            if landed not in ([], list(own)):
                found.append(f"{program.name} landed on {landed} only")
            if kind == "ok" and not any(self._landed(other, final) for other in self._same(program)):
                found.append(f"{program.name} was acknowledged and is not there")
            if (
                len(
                    {
                        other.mark
                        for other in self._same(program)
                        if other.appends and self._landed(other, final)
                    }
                )
                > 1
            ):
                found.append(f"operation {program.op_id} took effect twice")
            # Another attempt of its operation may have made what a failed one was told it had not.
            if kind in ("fail", "void") and landed and (program.op_id is None or kind == "void"):
                found.append(f"{program.name} is there and was reported as not")
            if landed or (kind == "ok" and not program.appends):
                took.setdefault(program.mark, program)
        for program in self.programs:
            if program.kind == "void" and program.name in heard and heard[program.name][0] == "ok":
                there = any(other.op_id == program.op_id and other.mark in took for other in self.programs)
                if (heard[program.name][1] is Outcome.COMMITTED) != there:
                    found.append("a void was answered wrong")
        return found or self._serial(heard, final, list(took.values()))

    def _same(self, program: Program) -> list[Program]:
        """The attempts of one operation; a call without an id is one by itself."""
        if program.op_id is None:
            return [program]
        return [other for other in self.programs if other.op_id == program.op_id and other.kind != "void"]

    def _own(self, program: Program) -> tuple[str, ...]:
        """The keys whose final value must show what a program wrote."""
        keys = self.strict if program.kind == "transact" else self.keys
        return tuple(key for key in program.appends if key in keys)

    def _landed(self, program: Program, final: Lists) -> bool:
        return all(program.mark in final[key] for key in self._own(program))

    def _serial(self, heard: dict[str, tuple[str, Any]], final: Lists, took: list[Program]) -> list[str]:
        # Of attempts of one operation whichever was answered tells what was read.
        reads: dict[str, Any] = {}
        for program in self.programs:
            kind, result = heard.get(program.name, ("info", None))
            if kind == "ok" and program.kind != "void":
                reads.setdefault(program.mark, result)
        for order in itertools.permutations(took):
            lists: Lists = dict.fromkeys(self.keys, ())
            explained = all(self._explains(program, lists, reads.get(program.mark)) for program in order)
            if explained and all(lists[key] == final[key] for key in self.strict):
                return []
        return ["no serial order explains it"]

    def _explains(self, program: Program, lists: Lists, reads: Any) -> bool:
        """Whether a program may come next in the order; its writes are made in *lists*."""
        if reads is not None and any(
            tuple(seen) != lists[key] for key, seen in reads.items() if key in self.strict
        ):
            return False
        for key in program.appends:
            lists[key] = () if program.kind == "remove" else (*lists[key], program.mark)
        return True


class Erased(Judge):
    """
    The judge where a program removes a key: what was written there leaves no trace.

    Whatever was acknowledged took effect, what failed did not, what is unclear may have.
    """

    def _problems(self, heard: dict[str, tuple[str, Any]], final: Lists) -> list[str]:
        kinds = {program.name: heard.get(program.name, ("info", None))[0] for program in self.programs}
        sure = [program for program in self.programs if kinds[program.name] == "ok"]
        open_ = [program for program in self.programs if kinds[program.name] == "info"]
        for count in range(len(open_) + 1):
            for some in itertools.combinations(open_, count):
                if not self._serial(heard, final, [*sure, *some]):
                    return []
        return ["no serial order of what may have taken effect explains it"]


def explore(
    programs: tuple[Program, ...],
    keys: tuple[str, ...] = ("a", "b"),
    *,
    absent: bool = False,
    faults: int,
    crashes: int,
    loose: tuple[str, ...] = (),
    stamped: bool = False,
    deleted: bool = False,
) -> Explored:
    """All states of these programs on keys that a plain writer or the toolkit made; rows can be deleted for real."""
    starts: dict[str, Callable[[], Steps[Any]]] = {program.name: program.steps for program in programs}
    rows = () if absent else stamped_rows(keys) if stamped else rows_of(keys)
    explorer = Explorer(starts, rows, faults=faults, crashes=crashes, deleted=deleted)
    erased = any(program.kind == "remove" for program in programs)
    return explorer.explore((Erased if erased else Judge)(programs, keys, loose))
