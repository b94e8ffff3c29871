"""
Single keys under every fault, on virtual time: a seed chooses a store, a network, hazards, clients and plain writers.

The clients run the very generators the drivers run. Two kinds of scenario alternate. In *tokens* every update adds a
token of its own to a list, so that each effect can be counted: nothing acknowledged is missing, nothing counts twice,
nothing that failed is there, and a receipt was resolved to what the store holds in the end. In *register* reads,
increments, creates, compare-and-sets, writes and deletes make a history that must be linearizable. ::

    python -m toolkit.testing.scenarios 4711

runs one seed again and prints what happened.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from toolkit.core.jobs import Done, Job, Rules, Verb
from toolkit.core.judge import Receipt
from toolkit.core.model import ABSENT, Entry, Outcome, Reply, Write
from toolkit.core.policy import RetryPolicy
from toolkit.core.reading import read_entry
from toolkit.core.resolve import resolve_receipt
from toolkit.core.seen import see
from toolkit.core.site import Site, Writers
from toolkit.core.stamp import OpId
from toolkit.core.steps import Get, Now, Pause, Put, Steps
from toolkit.core.update import KeyWriter
from toolkit.errors import (
    AlreadyExistsError,
    AttemptsExhaustedError,
    ConflictError,
    NotFoundError,
    OutcomeUnknownError,
    StateError,
    StoreUnavailableError,
)
from toolkit.stores import Call, Profile
from toolkit.testing.history import Kind, Op
from toolkit.testing.linear import check_linearizable
from toolkit.testing.memory import MemoryWorld, profile_of
from toolkit.testing.simulate import Hazards, Life, Network, Run, simulate

KEY: Final = "k"
PROFILES: Final = ("in-memory", "redis", "postgresql/v2", "mysql", "mongodb", "aws.dynamodb", "lying")
MANNERS: Final = ("keep", "drop", "echo")
POLICY: Final = RetryPolicy(deadline=5.0)
ENOUGH: Final = 5


class SinfulWorld(MemoryWorld):
    """
    A store that sometimes words an outage as a conflict and, where its profile admits it, acknowledges for nothing.

    Attributes:
        sins: How often each was committed: ``dressed`` and ``ack_only``.
        lies: Whether it acknowledges what it did not do.
    """

    def __init__(self, profile: Profile, seed: int, *, dressed: float, ack_only: float) -> None:
        super().__init__(profile)
        self.sins: Counter[str] = Counter()
        self.lies = ack_only > 0
        self._dice = random.Random(seed)  # noqa: S311  it replays
        self._dressed, self._ack_only = dressed, ack_only

    def put(self, write: Write) -> Reply:
        drawn = self._dice.random()
        if drawn < self._dressed and (write.etag or write.first_write):
            self.sins["dressed"] += 1
            return Reply("ABORTED", f"possible etag mismatch. error from state store: failed to set key {write.key}")
        if drawn > 1 - self._ack_only and self._refuse(write) is not None:
            self.sins["ack_only"] += 1
            return Reply()
        return super().put(write)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    What a seed means.
    """

    kind: str
    profile: Profile
    network: Network
    hazards: Hazards
    clients: int
    calls: int
    plain: tuple[str, ...]
    op_ids: bool
    dressed: float
    ack_only: float


def plan_of(seed: int) -> Plan:
    """
    The scenario of a seed; neighbouring seeds differ in everything.
    """
    dice = random.Random(f"plan/{seed}")  # noqa: S311  it replays
    name = dice.choice(PROFILES)
    lying = name == "lying"
    profile = profile_of("in-memory" if lying else name)
    if lying:
        profile = replace(profile, lies=frozenset({Call.CREATE, Call.CAS}))
    kind = dice.choice(("tokens", "register"))
    plain = tuple(dice.choices(MANNERS, k=dice.choice((0, 0, 1, 2)))) if kind == "tokens" else ()

    def rate(most: float) -> float:
        return dice.choice((0.0, most / 2, most))

    # A plain writer that takes ids away leaves a repeated answer without a witness: nobody promises anything then.
    witnessed = not set(plain) & {"drop", "echo"}
    network = Network(
        drop_request=rate(0.1),
        drop_reply=rate(0.3),
        duplicate=rate(0.2) if witnessed else 0.0,
        late=rate(0.1),
        late_duplicate=rate(0.1),
        fail_read=rate(0.1),
    )
    hazards = Hazards(kill=rate(0.05), restarts=1, freeze=rate(0.05), skew=dice.choice((0.0, 300.0)))
    return Plan(
        kind=kind,
        profile=profile,
        network=network,
        hazards=hazards,
        clients=dice.choice((2, 2, 3)),
        calls=dice.choice((1, 2, 3)),
        plain=plain,
        op_ids=witnessed,
        dressed=rate(0.1) if not plain else 0.0,
        ack_only=0.5 if lying else 0.0,
    )


@dataclass(slots=True)
class Finding:
    """
    What one seed showed.

    Attributes:
        problems: Broken promises, in words; empty for a clean run.
        told: How often callers heard what.
        fired: How often each fault hit a client that was writing.
    """

    seed: int
    plan: Plan
    run: Run[SinfulWorld]
    problems: list[str]
    told: Counter[str]
    fired: Counter[str]

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {self.plan.kind} on {self.plan.profile.type}"]
        lines += self.problems or ["clean"]
        lines.append(f"again: python -m toolkit.testing.scenarios {self.seed}")
        return "\n".join(lines)


def site_of(profile: Profile, name: str) -> Site:
    """
    The surroundings of one process.
    """
    count = iter(range(sys.maxsize))
    return Site(
        store="simulated",
        profile=profile,
        rules=Rules(can_create=profile.safe_create, has_ttl=profile.has_ttl),
        policy=POLICY,
        writers=Writers(lambda: f"{name}.{next(count)}"),
        observed=lambda: True,
    )


def call(site: Site, verb: Verb, op_id: str | None = None, **parts: Any) -> Steps[Any]:
    """
    One call as a store object makes it: its value, or its error raised.
    """
    now = yield from Now()
    op = OpId.of(op_id, verb) if op_id is not None else None
    job = Job(verb, KEY, now.mono + POLICY.deadline, op=op, op_id=op_id, started=now.mono, **parts)
    waiting = [job]

    def take() -> list[Job]:
        taken = waiting[:]
        waiting.clear()
        return taken

    ((_, result),) = yield from KeyWriter(site, KEY, job.deadline, take).run()
    if isinstance(result, Done):
        return result.value
    raise result.error


# Tokens ------------------------------------------------------------------------------------------------------------------


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


def adding(token: str) -> Callable[[Any], Any]:
    """
    A change that adds a token.
    """
    return lambda value: {**value, "t": [*value["t"], token]}


class TokenClient:
    """
    A process that adds its tokens, one call each, and goes on after a crash where it was.
    """

    def __init__(self, plan: Plan, name: str, ledger: Ledger) -> None:
        self.plan, self.name, self.ledger = plan, name, ledger
        self.next = 0
        self.repeats = False

    def start(self, life: Life) -> Steps[None]:
        site = site_of(self.plan.profile, f"{self.name}{life.number}")
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
                yield from call(site, "update", f"op-{token}", change=adding(token), default={"t": []})
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
            return (yield from call(site, "update", change=adding(token), default={"t": []}))
        if kind < 0.7:
            return (yield from call(site, "create", value={"t": [token]}))
        now = yield from Now()
        entry: Entry = yield from read_entry(site, KEY, now.mono + POLICY.deadline)
        yield from Pause(life.random.uniform(0.0, 0.02))
        value = adding(token)(entry.value if entry.exists else {"t": []})
        return (yield from call(site, "compare_and_set", value=value, etag=entry.etag))

    def _resolve(self, life: Life, token: str, receipt: str) -> Steps[None]:
        """
        Ask later, as another process, what became of it.
        """
        yield from Pause(life.random.uniform(0.0, 20.0))
        now = yield from Now()
        other = site_of(self.plan.profile, f"{self.name}r{life.number}.{token}")
        try:
            told = yield from resolve_receipt(other, Receipt.parse(receipt), now.mono + 30.0, may_write=True)
        except StoreUnavailableError:
            return
        self.ledger.note(token, {Outcome.COMMITTED: "committed", Outcome.NOT_COMMITTED: "failed"}.get(told, "unknowable"))


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
    stored = Counter(seen.value["t"] if seen.value is not ABSENT else ())
    must = {"acked": {1}, "plain": {0, 1} if world.lies else {1}, "committed": {1}, "failed": {0}, "conflict": {0}, "refused": {0}}
    problems = []
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
    run = _simulate(seed, plan, processes)
    return Finding(seed, plan, run, judge_tokens(ledger, run.world), ledger.told, _fired(run))


# Register ----------------------------------------------------------------------------------------------------------------

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
        site = site_of(self.plan.profile, f"{self.name}{life.number}")
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
            more = yield from call(site, "update", change=lambda value: {"v": value["v"] + 1}, default={"v": 0})
            return more["v"]
        case "create":
            yield from call(site, "create", value={"v": fresh})
        case "cas":
            yield from call(site, "compare_and_set", value={"v": fresh}, etag=old.etag if old else None)
        case "del-if":
            yield from call(site, "delete", etag=old.etag if old else None)
        case "write":
            return (yield from call(site, "set", value={"v": fresh}))
        case _:
            return (yield from call(site, "delete"))
    return True


def register(seed: int, plan: Plan) -> Finding:
    """
    Run a *register* scenario.
    """
    history = Recorder()
    names = [f"c{number}" for number in range(plan.clients)]
    run = _simulate(seed, plan, {name: RegisterClient(plan, name, history).start for name in names})
    seen = see(KEY, run.world.get(KEY))
    last = round(run.elapsed * 1e9) + 1
    final = Op(-1, "end", "read", "ok", last, last + 1, KEY, None, seen.value["v"] if seen.value is not ABSENT else None)
    report = check_linearizable([*history.rows.values(), final])
    problems = [] if report.verdict == "ok" else [str(report), *map(str, history.rows.values())]
    return Finding(seed, plan, run, problems, history.told, _fired(run))


# Both --------------------------------------------------------------------------------------------------------------------

Processes: TypeAlias = dict[str, Callable[[Life], Steps[Any]]]


def _simulate(seed: int, plan: Plan, processes: Processes) -> Run[SinfulWorld]:
    world = SinfulWorld(plan.profile, seed, dressed=plan.dressed, ack_only=plan.ack_only)
    return simulate(seed, processes, world, network=plan.network, hazards=plan.hazards)


def _fired(run: Run[SinfulWorld]) -> Counter[str]:
    conflicts = sum(event.name == "occ.conflict" for _, event in run.notes)
    commits = sum(event.name == "occ.committed" and "write_id" in event.fields for _, event in run.notes)
    return run.faults + run.world.sins + Counter(conflicts=conflicts, commits=commits)


def scenario(seed: int, plan: Plan | None = None) -> Finding:
    """
    Run the scenario of a seed, or another plan under it.
    """
    plan = plan or plan_of(seed)
    finding = (tokens if plan.kind == "tokens" else register)(seed, plan)
    for name, ending in finding.run.endings.items():
        error = getattr(ending, "error", None)
        if error is not None:
            finding.problems.append(f"process {name} ended with {error!r}")
    return finding


def explore(seeds: Iterable[int]) -> Generator[Finding]:
    """
    Run many seeds.
    """
    for seed in seeds:
        yield scenario(seed)


def main(arguments: list[str]) -> int:
    """
    Run the seeds named on the command line again; says 1 when one of them breaks a promise.
    """
    broken = 0
    for text in arguments:
        finding = scenario(int(text))
        for moment, who, words in finding.run.trace:
            print(f"{moment:10.4f} {who:4} {words}")  # noqa: T201  a program
        print(finding)  # noqa: T201
        broken += bool(finding.problems)
    return min(broken, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
