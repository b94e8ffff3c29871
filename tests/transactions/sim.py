"""
Simulated programs that append to lists in transactions, over the shipped generators, on a network that fails them.

Each run mixes what a store really meets: transactions of both paths on one store, with and without operation ids, single
updates, snapshots, somebody who voids ids, receipts resolved afterwards. What was read and appended is judged by the
list-append checker, and every answer a caller got by the final state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Final

from tests.core.support import job, once, result_of
from toolkit.core.jobs import Rules
from toolkit.core.judge import Receipt
from toolkit.core.model import ABSENT, CLEAR, Outcome
from toolkit.core.policy import RetryPolicy
from toolkit.core.recovery import clear
from toolkit.core.resolve import resolve_receipt
from toolkit.core.settle import read
from toolkit.core.site import Site, Writers
from toolkit.core.snapshot import snapshot
from toolkit.core.steps import Now, Pause, Steps
from toolkit.core.transaction import Finished, Options, TxRun
from toolkit.core.txreceipt import PREFIX, TxReceipt, resolve_tx, void_op
from toolkit.errors import (
    AttemptsExhaustedError,
    OperationVoidedError,
    OutcomeUnknownError,
    SnapshotUnstableError,
    StateError,
    StoreUnavailableError,
)
from toolkit.testing.append import check_append
from toolkit.testing.history import Op
from toolkit.testing.interleave import Raised
from toolkit.testing.memory import MemoryWorld
from toolkit.testing.simulate import Hazards, Life, Network, Run, simulate

KEYS: Final = ("a", "b", "c")
STORES: Final = ("redis", "postgresql/v2", "in-memory", "sqlite", "mysql")
DEADLINE: Final = 8.0

NETWORKS: Final = (
    Network(),
    Network(drop_request=0.05, drop_reply=0.1, duplicate=0.05, late=0.03, late_duplicate=0.05, late_after=(0.01, 3.0)),
    Network(
        drop_request=0.1, drop_reply=0.2, duplicate=0.1, late=0.05, late_duplicate=0.1, late_after=(0.01, 6.0), fail_read=0.05
    ),
)  # fmt: skip
HAZARDS: Final = (
    Hazards(),
    Hazards(kill=0.01, restarts=1, freeze=0.01, freeze_for=(0.5, 4.0)),
    Hazards(kill=0.03, restarts=2, freeze=0.02, freeze_for=(0.5, 6.0), skew=2.0),
)

Body = Callable[[TxRun], Steps[Any]]


@dataclass
class Call:
    """What one caller asked and heard."""

    value: str
    appends: list[str]
    start: int
    kind: str = "info"
    end: int | None = None
    reads: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    op_id: str | None = None
    receipt: str | None = None


@dataclass
class Scene:
    """One run: the store, the calls, and what was found afterwards."""

    seed: int
    profile: str
    calls: list[Call] = field(default_factory=list[Call])
    voids: dict[str, Outcome] = field(default_factory=dict[str, Outcome])
    resolved: dict[str, Outcome] = field(default_factory=dict[str, Outcome])
    final: dict[str, list[str]] = field(default_factory=dict[str, list[str]])


def site_of(world: MemoryWorld, life: Life, path: Any = None) -> Site:
    """The surroundings of one life of a process."""
    count = iter(range(1, 1 << 30))
    facts = world.profile
    return Site(
        store="s",
        profile=facts,
        rules=Rules(can_create=True, has_ttl=facts.has_ttl, envelope=False),
        policy=RetryPolicy(deadline=DEADLINE),
        writers=Writers(lambda: f"{life.name}.{life.number}.{next(count):x}"),
        observed=lambda: False,
        lease=1.0,
        path=path,
    )


def transact(site: Site, body: Body, op_id: str | None = None) -> Steps[Any]:
    """The loop of the drivers, in virtual time."""
    now = yield from Now()
    options = Options("t", op_id=op_id, budget=DEADLINE)
    run = TxRun(site, options, now.wall, now.mono + DEADLINE, now.mono)
    try:
        while True:
            done = yield from run.begin()
            if done is None:
                result = yield from body(run)
                ended = yield from run.end(result, None)
                done = ended if isinstance(ended, Finished) else None
            if done is not None:
                yield from _finish(run)
                if done.error is not None:
                    raise done.error
                return done.result
    finally:
        run.close()


def _finish(run: TxRun) -> Steps[None]:
    for later in run.later:
        now = yield from Now()
        yield from later(now.mono)


def appending(keys: list[str], written: list[str], value: str) -> Body:
    """A body that reads lists and appends to some of them."""

    def body(run: TxRun) -> Steps[dict[str, list[str]]]:
        reads: dict[str, list[str]] = {}
        for key in keys:
            found = yield from run.value(key)
            reads[key] = [] if found is ABSENT else list(found["l"])
        for key in written:
            run.put(key, {"l": [*reads[key], value]}, CLEAR)
        return reads

    return body


def client(scene: Scene, world: MemoryWorld, life: Life, rounds: int) -> Steps[None]:
    """One program: call after call of several kinds."""
    native = world.profile.native == "truthful"
    for number in range(rounds):
        site = site_of(world, life, life.random.choice(("native", "intents")) if native else "intents")
        site.writers = Writers(
            lambda n=number: f"{life.name}.{life.number}.{n}.{life.random.getrandbits(32):x}"
        )  # type: ignore[misc]
        keys = life.random.sample(KEYS, life.random.choice((1, 2, 2, 3)))
        call = Call(f"{life.name}.{life.number}.{number}", [], life.clock())
        kind = life.random.choices(("transact", "update", "snapshot"), (70, 15, 15))[0]
        if kind != "snapshot":
            call.appends = keys[:1] if kind == "update" else [k for k in keys if life.random.random() < 0.6]
        if kind == "transact" and life.random.random() < 0.5:
            call.op_id = f"op-{call.value}"
        scene.calls.append(call)
        yield from _heard(call, _ask(kind, site, call, keys), life)


def _ask(kind: str, site: Site, call: Call, keys: list[str]) -> Steps[dict[str, list[str]]]:
    now = yield from Now()
    if kind == "snapshot":
        found = yield from snapshot(site, tuple(keys), now.mono + DEADLINE)
        return {key: list(found[key]["l"]) if key in found else [] for key in keys}
    if kind == "update":
        (key,) = call.appends
        change = lambda value: {"l": [*value["l"], call.value]}  # noqa: E731
        one = job("update", key, change=change, default={"l": []}, deadline=now.mono + DEADLINE)
        one.started = now.mono
        writer = once(site, one, key=key)
        yield from writer.run()
        result = result_of(writer)
        if isinstance(result, BaseException):
            raise result
        return {key: list(result["l"])[:-1]}
    reads = yield from transact(site, appending(keys, call.appends, call.value), call.op_id)
    return dict(reads)


def _heard(call: Call, asking: Steps[dict[str, list[str]]], life: Life) -> Steps[None]:
    try:
        call.reads = yield from asking
        call.kind = "ok"
    except OutcomeUnknownError as error:
        call.receipt = error.receipt
    except (AttemptsExhaustedError, StoreUnavailableError, OperationVoidedError, SnapshotUnstableError):
        call.kind = "fail"
    call.end = life.clock()


def voider(scene: Scene, world: MemoryWorld, life: Life) -> Steps[None]:
    """Somebody who voids ids that may be under way."""
    site = site_of(world, life)
    for _ in range(3):
        yield from Pause(life.random.uniform(0.05, 2.0))
        open_ = [call.op_id for call in scene.calls if call.op_id is not None and call.kind == "info"]
        if open_:
            op_id = life.random.choice(open_)
            now = yield from Now()
            try:
                scene.voids[op_id] = yield from void_op(site, op_id, now.mono + DEADLINE)
            except StateError:
                # Nothing was learned; the id may be voided or not.
                scene.voids.pop(op_id, None)


def auditor(scene: Scene, world: MemoryWorld, life: Life) -> Steps[None]:
    """Long after: settle every key and resolve every receipt."""
    site = site_of(world, life)
    yield from Pause(10.0)
    for key in KEYS:
        now = yield from Now()
        seen = yield from read(site, key, now.mono + DEADLINE)
        seen = yield from clear(site, seen, None, now.mono + DEADLINE)
        scene.final[key] = [] if seen.value is ABSENT else list(seen.value["l"])
    for call in scene.calls:
        if call.receipt is not None:
            now = yield from Now()
            scene.resolved[call.value] = yield from _resolve(site, call.receipt, now.mono + DEADLINE)


def _resolve(site: Site, receipt: str, deadline: float) -> Steps[Outcome]:
    if receipt.startswith(PREFIX):
        return (yield from resolve_tx(site, TxReceipt.parse(receipt), deadline, may_write=True))
    return (yield from resolve_receipt(site, Receipt.parse(receipt), deadline, may_write=True))


def play(seed: int, *, processes: int = 3, rounds: int = 4) -> tuple[Scene, Run[MemoryWorld]]:
    """One seed from start to audit."""
    world = MemoryWorld(STORES[seed % 5])
    scene = Scene(seed, STORES[seed % 5])
    starts: dict[str, Callable[[Life], Generator[Any, Any, Any]]] = {
        f"p{number}": lambda life: client(scene, world, life, rounds) for number in range(processes)
    }
    if seed % 2:
        starts["void"] = lambda life: voider(scene, world, life)
    run = simulate(seed, starts, world, network=NETWORKS[seed % 3], hazards=HAZARDS[seed // 3 % 3])
    audit = simulate(seed, {"audit": lambda life: auditor(scene, world, life)}, world)
    for ending in (*run.endings.values(), *audit.endings.values()):
        if isinstance(ending, Raised):
            raise ending.error
    return scene, run


def operations(scene: Scene) -> list[Op]:
    """The calls as a history for the checker."""
    ops: list[Op] = []
    for number, call in enumerate(scene.calls):
        landed = any(call.value in scene.final[key] for key in call.appends)
        reads = [("r", key, tuple(seen)) for key, seen in call.reads.items()]
        appends = [("append", key, call.value) for key in call.appends]
        kind: Any = "info" if call.kind == "info" and landed else call.kind
        ops.append(
            Op(number, call.value.split(".")[0], "txn", kind, call.start, call.end, mops=(*reads, *appends))
        )
    return ops


def problems(scene: Scene) -> list[str]:
    """Everything in a run that no promise allows."""
    report = check_append(operations(scene), final=scene.final)
    found = [f"{anomaly.kind}: {anomaly.detail}" for anomaly in report.anomalies]
    for call in scene.calls:
        landed = [key for key in call.appends if call.value in scene.final[key]]
        if landed not in ([], call.appends):
            found.append(f"{call.value} landed on {landed} of {call.appends}")
        expected = {"ok": True, "fail": False}.get(call.kind)
        heard = [expected, _told(scene.resolved.get(call.value)), _told(scene.voids.get(call.op_id or ""))]
        if call.appends and not {None, bool(landed)}.issuperset(heard):
            found.append(f"{call.value} ({call.kind}, resolved and voided as {heard[1:]}) landed on {landed}")
    return [f"seed {scene.seed} on {scene.profile}: {one}" for one in found]


def _told(outcome: Outcome | None) -> bool | None:
    return (
        {Outcome.COMMITTED: True, Outcome.NOT_COMMITTED: False}.get(outcome) if outcome is not None else None
    )


def explore(first: int, count: int) -> tuple[Counter[str], Counter[str], set[str], list[str]]:
    """Play some seeds: what callers heard, the faults that fired, the digests, and what went wrong."""
    heard: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    digests: set[str] = set()
    found: list[str] = []
    for seed in range(first, first + count):
        scene, run = play(seed)
        heard.update(call.kind for call in scene.calls)
        heard.update(f"voided {outcome.value}" for outcome in scene.voids.values())
        heard.update(f"resolved {outcome.value}" for outcome in scene.resolved.values())
        faults.update(run.faults)
        digests.add(run.digest)
        found += problems(scene)
    return heard, faults, digests, found
