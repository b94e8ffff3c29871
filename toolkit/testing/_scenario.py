"""
What the scenarios share: the plan of a seed, a store that sins, and a call as a store object makes it.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from toolkit.core.jobs import Done, Job, Rules, Verb
from toolkit.core.model import Reply, Write
from toolkit.core.policy import RetryPolicy
from toolkit.core.site import Site, Writers
from toolkit.core.stamp import OpId
from toolkit.core.steps import Now, Steps
from toolkit.core.update import KeyWriter
from toolkit.stores import Call, Profile
from toolkit.testing.memory import MemoryWorld, profile_of
from toolkit.testing.simulate import Hazards, Life, Network, Run, simulate

KEY: Final = "k"
PROFILES: Final = ("in-memory", "redis", "postgresql/v2", "mysql", "mongodb", "aws.dynamodb", "lying")
MANNERS: Final = ("keep", "drop", "echo")
POLICY: Final = RetryPolicy(deadline=5.0)


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
        # Where expired rows refuse a create, nobody could tell such a refusal from theirs.
        refusable = write.etag or (write.first_write and not self.profile.ghosts)
        if drawn < self._dressed and refusable:
            self.sins["dressed"] += 1
            return Reply(
                "ABORTED", f"possible etag mismatch. error from state store: failed to set key {write.key}"
            )
        if drawn > 1 - self._ack_only and self._refuse(write) is not None:
            self.sins["ack_only"] += 1
            return Reply()
        return super().put(write)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    What a seed means; ``bare``: the value is a plain list, which has no room for ids.
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
    bare: bool = False


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

    bare = kind == "tokens" and not plain and not lying and dice.random() < 0.25
    # Without an id, or where a plain writer takes it away, a repeated answer has no witness: nobody promises anything then.
    witnessed = not bare and not set(plain) & {"drop", "echo"}
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
        bare=bare,
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


Processes: TypeAlias = dict[str, Callable[[Life], Steps[Any]]]


def run_plan(seed: int, plan: Plan, processes: Processes) -> Run[SinfulWorld]:
    """
    Simulate the processes on the store and the network of a plan.
    """
    world = SinfulWorld(plan.profile, seed, dressed=plan.dressed, ack_only=plan.ack_only)
    return simulate(seed, processes, world, network=plan.network, hazards=plan.hazards)


def fired_in(run: Run[SinfulWorld]) -> Counter[str]:
    """
    How often each fault fired, with the conflicts and commits beside them.
    """
    conflicts = sum(event.name == "occ.conflict" for _, event in run.notes)
    commits = sum(event.name == "occ.committed" and "write_id" in event.fields for _, event in run.notes)
    return run.faults + run.world.sins + Counter(conflicts=conflicts, commits=commits)
