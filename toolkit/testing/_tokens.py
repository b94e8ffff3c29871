"""
The *tokens* scenarios: every update adds a token of its own, so that each effect can be counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, cast

from toolkit.core.judge import Receipt
from toolkit.core.model import ABSENT, Entry, Outcome, Reply, Write
from toolkit.core.reading import read_entry
from toolkit.core.resolve import resolve_receipt
from toolkit.core.seen import see
from toolkit.core.site import Site
from toolkit.core.steps import Get, Now, Pause, Put, Steps
from toolkit.errors import (
    AttemptsExhaustedError,
    ConflictError,
    NotFoundError,
    OutcomeUnknownError,
    StateError,
    StoreUnavailableError,
)
from toolkit.testing import _scenario as base
from toolkit.testing._scenario import KEY, POLICY, Finding, Plan, SinfulWorld
from toolkit.testing.simulate import Life

ENOUGH: Final = 5


@dataclass(slots=True)
class Ledger:
    """
    What became of each token, as far as its client was told.
    """

    fate: dict[str, str] = field(default_factory=dict[str, str])
    told: Counter[str] = field(default_factory=Counter[str])

    def note(self, token: str, fate: str) -> None:
        self.fate[token] = fate
        self.told[fate] += 1


def holding(tokens: list[str], *, bare: bool) -> Any:
    """
    A value that holds these tokens.
    """
    return tokens if bare else {"t": tokens}


def held_in(value: Any) -> list[str]:
    """
    The tokens of a value.
    """
    return cast("list[str]", value["t"] if isinstance(value, dict) else value)


def adding(token: str) -> Callable[[Any], Any]:
    """
    A change that adds a token.
    """
    return lambda value: holding([*held_in(value), token], bare=isinstance(value, list))


class TokenClient:
    """
    A process that adds its tokens, one call each, and goes on after a crash where it was.
    """

    def __init__(self, plan: Plan, name: str, ledger: Ledger) -> None:
        self.plan, self.name, self.ledger = plan, name, ledger
        self.empty = holding([], bare=plan.bare)
        self.next = 0
        self.repeats = False

    def start(self, life: Life) -> Steps[None]:
        site = base.site_of(self.plan.profile, f"{self.name}{life.number}")
        if self.repeats:
            yield from self._with_id(site, life, self.next - 1)
        while self.next < self.plan.calls:
            number, self.next = self.next, self.next + 1
            token = f"{self.name}-{number}"
            self.ledger.fate[token] = "maybe"  # until it is told: it may die on the way
            if self.plan.op_ids and life.random.random() < 0.4:
                yield from self._with_id(site, life, number)
            else:
                yield from self._without_id(site, life, token)

    def _with_id(self, site: Site, life: Life, number: int) -> Steps[None]:
        token = f"{self.name}-{number}"
        self.repeats = True
        for _ in range(ENOUGH):
            try:
                yield from base.call(site, "update", f"op-{token}", change=adding(token), default=self.empty)
            except (OutcomeUnknownError, StoreUnavailableError, AttemptsExhaustedError):
                self.ledger.told["repeated"] += 1
                yield from Pause(life.random.uniform(0.0, 3.0))
            else:
                self.ledger.note(token, "acked")
                break
        self.repeats = False

    def _without_id(self, site: Site, life: Life, token: str) -> Steps[None]:
        try:
            yield from self._call(site, life, token)
        except OutcomeUnknownError as error:
            self.ledger.note(token, "unknown")
            yield from self._resolve(life, token, error.receipt)
        except NotFoundError:
            self.ledger.note(token, "refused")
        except StateError as error:
            self.ledger.note(token, "conflict" if isinstance(error, ConflictError) else "failed")
        else:
            self.ledger.note(token, "acked")

    def _call(self, site: Site, life: Life, token: str) -> Steps[Any]:
        kind = life.random.random()
        if kind < 0.6:
            return (yield from base.call(site, "update", change=adding(token), default=self.empty))
        if kind < 0.7:
            return (yield from base.call(site, "create", value=adding(token)(self.empty)))
        now = yield from Now()
        entry: Entry = yield from read_entry(site, KEY, now.mono + POLICY.deadline)
        yield from Pause(life.random.uniform(0.0, 0.02))
        value = adding(token)(entry.value if entry.exists else self.empty)
        return (yield from base.call(site, "compare_and_set", value=value, etag=entry.etag))

    def _resolve(self, life: Life, token: str, receipt: str) -> Steps[None]:
        """
        Ask later, as another process, what became of it.
        """
        yield from Pause(life.random.uniform(0.0, 20.0))
        now = yield from Now()
        other = base.site_of(self.plan.profile, f"{self.name}r{life.number}.{token}")
        try:
            told = yield from resolve_receipt(other, Receipt.parse(receipt), now.mono + 30.0, may_write=True)
        except StoreUnavailableError:
            return
        self.ledger.note(
            token, {Outcome.COMMITTED: "committed", Outcome.NOT_COMMITTED: "failed"}.get(told, "unknowable")
        )


def plain_writer(manner: str, name: str, ledger: Ledger) -> Callable[[Life], Steps[None]]:
    """
    A process without the toolkit: an ETag loop that keeps the stamp, drops it, or writes back the first one it saw.
    """

    def start(life: Life) -> Steps[None]:
        first: Any = None
        for number in range(3):
            yield from Pause(life.random.uniform(0.0, 0.1))
            row = yield from Get(KEY)
            if isinstance(row, Reply) or row.missing:
                continue
            body = json.loads(row.data)
            stamp = body.pop("_occ", None)
            if body == {}:
                continue  # a tombstone is not its business
            first = first or stamp
            token = f"{name}-{life.number}-{number}"
            written = {"t": [*body["t"], token]}
            if manner != "drop" and stamp is not None:
                written["_occ"] = stamp if manner == "keep" else first
            ledger.fate[token] = "maybe"
            reply = yield from Put(Write(KEY, json.dumps(written).encode(), etag=row.etag))
            if reply.ok:
                ledger.note(token, "plain")

    return start


def judge_tokens(ledger: Ledger, world: SinfulWorld) -> list[str]:
    """
    Hold the stored list against what everybody was told.

    A plain writer believes a store that acknowledges for nothing; what it was told counts elsewhere only.
    """
    seen = see(KEY, world.get(KEY))
    stored: Counter[str] = Counter(held_in(seen.value) if seen.value is not ABSENT else ())
    must = {
        "acked": {1},
        "plain": {0, 1} if world.lies else {1},
        "committed": {1},
        "failed": {0},
        "conflict": {0},
        "refused": {0},
    }
    problems: list[str] = []
    for token, fate in ledger.fate.items():
        if stored[token] not in must.get(fate, {0, 1}):
            problems.append(f"token {token} was told {fate} and is there {stored[token]} times")
    strangers = set(stored) - set(ledger.fate)
    return problems + [f"token {token} comes from nowhere" for token in sorted(strangers)]


def tokens(seed: int, plan: Plan) -> Finding:
    """
    Run a *tokens* scenario.
    """
    ledger = Ledger()
    processes: dict[str, Callable[[Life], Steps[Any]]] = {}
    for number in range(plan.clients):
        processes[f"c{number}"] = TokenClient(plan, f"c{number}", ledger).start
    for number, manner in enumerate(plan.plain):
        processes[f"p{number}"] = plain_writer(manner, f"p{number}", ledger)
    run = base.run_plan(seed, plan, processes)
    return Finding(seed, plan, run, judge_tokens(ledger, run.world), ledger.told, base.fired_in(run))
