"""
The *register* scenarios: calls of every kind make a history that must be linearizable.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Final

from toolkit.core.model import ABSENT, Entry
from toolkit.core.reading import read_entry
from toolkit.core.seen import see
from toolkit.core.site import Site
from toolkit.core.steps import Now, Steps
from toolkit.errors import (
    AlreadyExistsError,
    AttemptsExhaustedError,
    ConflictError,
    OutcomeUnknownError,
    StoreUnavailableError,
)
from toolkit.testing import _scenario as base
from toolkit.testing._scenario import KEY, POLICY, Finding, Plan
from toolkit.testing.history import Kind, Op
from toolkit.testing.linear import check_linearizable
from toolkit.testing.simulate import Life

CALLS: Final = ("read", "inc", "create", "cas", "write", "del", "del-if")
WEIGHTS: Final = (15, 30, 20, 15, 5, 10, 5)
# Values from here on are written once; smaller ones come from counting.
UNIQUE: Final = 1000


class Recorder:
    """
    A history in memory.
    """

    def __init__(self) -> None:
        self.rows: dict[int, Op] = {}
        self.told: Counter[str] = Counter()

    def invoke(self, life: Life, f: str, arg: Any) -> int:
        number = len(self.rows)
        self.rows[number] = Op(number, life.name, f, "info", life.clock(), None, KEY, arg)
        return number

    def end(self, number: int, life: Life, kind: Kind, out: Any = None) -> None:
        self.told[kind] += 1
        self.rows[number] = replace(self.rows[number], type=kind, ret=life.clock(), out=out)


@dataclass(slots=True)
class RegisterClient:
    """
    A process that does a few calls of chance; after a crash it does not know what became of the last one.
    """

    plan: Plan
    name: str
    history: Recorder
    next: int = 0

    def start(self, life: Life) -> Steps[None]:
        site = base.site_of(self.plan.profile, f"{self.name}{life.number}")
        while self.next < self.plan.calls + 1:
            fresh = UNIQUE * (int(self.name[1:]) + 1) + self.next * 20
            self.next += 1
            kind = life.random.choices(CALLS, WEIGHTS)[0]
            old: Entry | None = None
            if kind in ("cas", "del-if"):
                old = yield from self._look(site)
                if old is None:
                    continue
            yield from self._do(site, life, kind, fresh, old)

    def _look(self, site: Site) -> Steps[Entry | None]:
        now = yield from Now()
        try:
            return (yield from read_entry(site, KEY, now.mono + POLICY.deadline))
        except StoreUnavailableError:
            return None

    def _do(self, site: Site, life: Life, kind: str, fresh: int, old: Entry | None) -> Steps[None]:
        before = old.value["v"] if old is not None and old.exists else None
        forms = {"inc": ("inc", 1), "create": ("cas", [None, fresh]), "cas": ("cas", [before, fresh])}
        forms |= {"del-if": ("cas", [before, None]), "write": ("write", fresh)}
        number = self.history.invoke(life, *forms.get(kind, (kind, None)))
        try:
            out = yield from perform(site, kind, fresh, old)
        except OutcomeUnknownError:
            self.history.end(number, life, "info")
        except (AttemptsExhaustedError, StoreUnavailableError):
            self.history.end(number, life, "fail")
        except (AlreadyExistsError, ConflictError):
            # Counting starts anew after a delete, so a small number can come back as another version: the model, which
            # knows values alone, must not hear of a refusal then.
            again = before is not None and before < UNIQUE
            self.history.end(number, life, "fail" if again else "ok", False)
        else:
            self.history.end(number, life, "ok", out)


def _one_more(value: Any) -> Any:
    return {"v": value["v"] + 1}


def perform(site: Site, kind: str, fresh: int, old: Entry | None) -> Steps[Any]:
    """
    A call, and the answer the model expects of it.
    """
    match kind:
        case "read":
            now = yield from Now()
            entry: Entry = yield from read_entry(site, KEY, now.mono + POLICY.deadline)
            return entry.value["v"] if entry.exists else None
        case "inc":
            more = yield from base.call(site, "update", change=_one_more, default={"v": 0})
            return more["v"]
        case "create":
            yield from base.call(site, "create", value={"v": fresh})
        case "cas":
            yield from base.call(site, "compare_and_set", value={"v": fresh}, etag=old.etag if old else None)
        case "del-if":
            yield from base.call(site, "delete", etag=old.etag if old else None)
        case "write":
            return (yield from base.call(site, "set", value={"v": fresh}))
        case _:
            return (yield from base.call(site, "delete"))
    return True


def register(seed: int, plan: Plan) -> Finding:
    """
    Run a *register* scenario.
    """
    history = Recorder()
    names = [f"c{number}" for number in range(plan.clients)]
    run = base.run_plan(seed, plan, {name: RegisterClient(plan, name, history).start for name in names})
    seen = see(KEY, run.world.get(KEY))
    last = round(run.elapsed * 1e9) + 1
    final = Op(
        -1,
        "end",
        "read",
        "ok",
        last,
        last + 1,
        KEY,
        None,
        seen.value["v"] if seen.value is not ABSENT else None,
    )
    report = check_linearizable([*history.rows.values(), final])
    problems = [] if report.verdict == "ok" else [str(report), *map(str, history.rows.values())]
    return Finding(seed, plan, run, problems, history.told, base.fired_in(run))
