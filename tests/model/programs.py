"""
The programs of the model: transactions, single updates, snapshots, voids, plain writers.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import Any, Final

from tests.core.support import job, once, result_of
from tests.model.network import Rows, alone
from toolkit.core.events import Event
from toolkit.core.jobs import Rules
from toolkit.core.merge import MergedRun
from toolkit.core.model import ABSENT, CLEAR, DELETE, Row, Write
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
        members: The transactions of a ``merged`` one, in order; each reports for itself.
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
    members: tuple[Program, ...] = ()

    @property
    def callers(self) -> tuple[Program, ...]:
        """Who reports: the program itself, or its members."""
        return self.members or (self,)

    @property
    def mark(self) -> str:
        return self.value or self.name

    def steps(self) -> Steps[None]:
        """The call, a report of what it heard, and what is done in the background."""
        site = site_of(self.name, self.path)
        match self.kind:
            case "transact":
                yield from self._transact(site)
            case "merged":
                yield from merged(self, site)
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

    def body(self, run: TxRun) -> Steps[dict[str, list[str]]]:
        """What it reads and appends in a transaction."""
        seen: dict[str, list[str]] = {}
        for key in self.reads:
            found = yield from run.value(key)
            seen[key] = [] if found is ABSENT else list(found["l"])
        for key in self.appends:
            run.put(key, {"l": [*seen.get(key, []), self.mark]}, CLEAR)
        return seen

    def _loop(self, run: TxRun) -> Steps[Any]:
        while True:
            done = yield from run.begin()
            if done is None:
                seen = yield from self.body(run)
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


def merged(batch: Program, site: Site) -> Steps[None]:
    """Several transactions in one commit, as a process does it with those that share keys; one attempt."""
    open_: list[tuple[Program, TxRun]] = []
    for member in batch.members:
        run = TxRun(site, Options("t", op_id=member.op_id, attempts=1), 1000.0, DEADLINE, 0.0)
        done = yield from _begin(member, run)
        if not done:
            open_.append((member, run))
    if not open_:
        return
    keys = frozenset(key for member, _ in open_ for key in (*member.reads, *member.appends))
    whole = MergedRun(site, [run for _, run in open_], keys)
    try:
        yield from whole.open()
    except StateError:
        for member, _ in open_:
            yield from _report(member.name, "fail", None)
        return
    for (member, run), share in zip(open_, whole.shares, strict=True):
        run.start(0.0)
        run.working = whole.working
        seen = yield from member.body(run)
        whole.fold(share, seen, None)
    yield from whole.settle()
    for (member, _), share in zip(open_, whole.shares, strict=True):
        verdict = share.verdict
        assert verdict is not None
        if isinstance(verdict, Finished):
            yield from _report(member.name, "ok", verdict.result)
        else:
            yield from _report(
                member.name, "info" if isinstance(verdict, OutcomeUnknownError) else "fail", None
            )
    for later in whole.later if batch.finishes else ():
        yield from later(0.0)


def _begin(member: Program, run: TxRun) -> Steps[bool]:
    try:
        done = yield from run.begin()
    except StateError as error:
        kind = "void" if isinstance(error, OperationVoidedError) else "fail"
        yield from _report(member.name, kind, None)
        return True
    if done is not None:
        yield from _report(member.name, "ok", done.result)
    return done is not None


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
