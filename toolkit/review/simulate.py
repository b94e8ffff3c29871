"""
A log with known truth: writers that race on keys, played event by event, without a store and without a real clock.

The oracle of the tests and the generator of the benchmarks: what it says it did is what the commands must find.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

START: Final = datetime(2026, 1, 5, 9, 0, tzinfo=UTC).timestamp()


@dataclass(frozen=True, slots=True)
class Workload:
    """
    Who writes what, how fast.

    Attributes:
        operations: How many operations are begun.
        keys: How many keys; the first are the hottest (Zipf).
        writers: How many writers, each its own process.
        rate: Operations begun per second, all writers together.
        skew: Zipf exponent; 0 spreads evenly.
        read_s: Mean of a read, and of a write; ``fn_s`` of the function between them.
        max_attempts: Attempts after which an operation gives up.
        backoff_s: First backoff; it doubles, with full jitter.
        outside: Share of operations done by a writer that logs nothing.
        stamped: Whether conflict lines name the winning write, as they do for stamped values.
        clocks: How many seconds each writer's clock is ahead, each on its own host; all right by default.
    """

    operations: int = 2000
    keys: int = 50
    writers: int = 4
    rate: float = 200.0
    skew: float = 1.2
    read_s: float = 0.002
    fn_s: float = 0.0005
    max_attempts: int = 8
    backoff_s: float = 0.002
    outside: float = 0.0
    stamped: bool = True
    seed: int = 1
    clocks: tuple[float, ...] = ()


@dataclass(slots=True)
class Truth:
    """
    What really happened.

    Attributes:
        pairs: Losers with the writer whose value they found, which is what a stamp names.
        direct: Losers with the writer that first invalidated their version, which is what a race names.
    """

    committed: int = 0
    conflicts: int = 0
    gave_up: int = 0
    lost_s: float = 0.0
    wins: Counter[str] = field(default_factory=Counter[str])
    losses: Counter[str] = field(default_factory=Counter[str])
    lost_s_by_key: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    direct: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    won_at: Counter[int] = field(default_factory=Counter[int])
    lost_at: Counter[int] = field(default_factory=Counter[int])

    def as_dict(self) -> dict[str, Any]:
        """
        The truth as plain data.
        """
        ranked = sorted(self.losses, key=lambda key: (-self.lost_s_by_key[key], key))
        return {
            "committed": self.committed,
            "conflicts": self.conflicts,
            "gave_up": self.gave_up,
            "lost_s": round(self.lost_s, 6),
            "hottest": ranked[0] if ranked else None,
            "keys": [
                {
                    "key": key,
                    "lost": self.losses[key],
                    "won": self.wins[key],
                    "lost_s": round(self.lost_s_by_key[key], 6),
                }
                for key in ranked
            ],
            "pairs": [
                {"loser": loser, "winner": winner, "count": count}
                for (loser, winner), count in sorted(self.pairs.items(), key=lambda item: (-item[1], item[0]))
            ],
            "attempts": [
                {"attempt": k, "committed": self.won_at[k], "lost": self.lost_at[k]}
                for k in sorted({*self.won_at, *self.lost_at})
            ],
        }


@dataclass(slots=True)
class _Call:
    number: int
    key: str
    writer: int
    outside: bool
    began: float
    attempt: int = 1
    base: int = 0
    read_s: float = 0.0
    fn_s: float = 0.0
    lost_s: float = 0.0
    wait_s: float = 0.0


@dataclass(slots=True)
class _Key:
    version: int = 0
    writer: str = ""
    write_id: str = ""
    writers: list[str] = field(default_factory=list[str])


def names(count: int, skew: float) -> tuple[list[str], list[float]]:
    """
    Keys and how often each is drawn.
    """
    return [f"order-{n}" for n in range(count)], [1.0 / (n + 1) ** skew for n in range(count)]


class Simulation:
    """
    Iterate it for (writer, record); ``truth`` is complete afterwards.
    """

    def __init__(self, workload: Workload) -> None:
        self.workload, self.truth = workload, Truth()
        self._random = random.Random(workload.seed)  # noqa: S311 - a game, not a secret
        self._keys: defaultdict[str, _Key] = defaultdict(_Key)
        self._agenda: list[tuple[float, int, str, _Call]] = []
        self._sequence = 0
        self._writes = 0

    def _spread(self, mean: float) -> float:
        return self._random.uniform(0.5, 1.5) * mean

    def _later(self, when: float, what: str, call: _Call) -> None:
        self._sequence += 1
        heapq.heappush(self._agenda, (when, self._sequence, what, call))

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        work = self.workload
        keys, weights = names(work.keys, work.skew)
        drawn = self._random.choices(keys, weights, k=work.operations)
        begins, begun = START, 0
        while self._agenda or begun < work.operations:
            while begun < work.operations and (not self._agenda or begins <= self._agenda[0][0]):
                outside = self._random.random() < work.outside
                call = _Call(begun, drawn[begun], self._random.randrange(work.writers), outside, begins)
                self._later(begins, "read", call)
                begun += 1
                begins += self._random.expovariate(work.rate)
            now, _, what, call = heapq.heappop(self._agenda)
            if what == "read":
                self._read(now, call)
            else:
                record = self._write(now, call) if what == "write" else self._end(now, call)
                if record is not None:
                    yield call.writer, record

    def _read(self, now: float, call: _Call) -> None:
        call.read_s, call.fn_s = self._spread(self.workload.read_s), self._spread(self.workload.fn_s)
        call.base = self._keys[call.key].version
        self._later(now + call.read_s + call.fn_s + self._spread(self.workload.read_s), "write", call)

    def _write(self, now: float, call: _Call) -> dict[str, Any] | None:
        state, truth = self._keys[call.key], self.truth
        write_s = round(self._spread(self.workload.read_s), 6)
        cost = round(call.read_s, 6) + round(call.fn_s, 6) + write_s
        if state.version == call.base:
            state.version += 1
            self._writes += 1
            state.writer = "" if call.outside else f"worker-{call.writer}"
            state.writers.append(state.writer)
            state.write_id = "" if call.outside else f"{call.writer:016x}-{self._writes:x}"
            if call.outside:
                return None
            truth.committed += 1
            truth.wins[call.key] += 1
            truth.won_at[call.attempt] += 1
            return self._record("occ.committed", now, call, write_s) | {
                "write_id": state.write_id, "path": "single", "combined": 1, "conflicts": call.attempt - 1,
                "lost_s": round(call.lost_s, 6), "wait_s": round(call.wait_s, 6),
                "total_s": round(now - call.began, 6), "bytes": 180,
            }  # fmt: skip
        return self._lose(now, call, state, write_s, cost)

    def _lose(
        self, now: float, call: _Call, state: _Key, write_s: float, cost: float
    ) -> dict[str, Any] | None:
        truth, work = self.truth, self.workload
        if not call.outside:
            truth.conflicts += 1
            truth.losses[call.key] += 1
            truth.lost_s += cost
            truth.lost_s_by_key[call.key] += cost
            truth.lost_at[call.attempt] += 1
            truth.pairs[f"worker-{call.writer}", state.writer or "(outside the toolkit)"] += 1
            truth.direct[f"worker-{call.writer}", state.writers[call.base] or "(not logged)"] += 1
        call.lost_s += cost
        last = call.attempt >= work.max_attempts
        wait = 0.0 if last else self._random.uniform(0, work.backoff_s * 2 ** min(call.attempt, 8))
        record = self._record("occ.conflict", now, call, write_s) | {
            "seen_etag": str(state.version), "max_attempts": work.max_attempts, "lost_s": round(cost, 6),
            "wait_s": round(wait, 6), "cause": "etag_mismatch", "transport": "grpc", "status": "ABORTED",
        }  # fmt: skip
        if work.stamped or not state.write_id:
            record["winner_kind"] = "committed" if state.write_id else "foreign"
            record["winner"] = state.write_id
        if last:
            self._later(now, "end", call)
        else:
            call.attempt += 1
            call.wait_s += wait
            self._later(now + wait, "read", call)
        return None if call.outside else record

    def _end(self, now: float, call: _Call) -> dict[str, Any] | None:
        if call.outside:
            return None
        self.truth.gave_up += 1
        return self._record("occ.gave_up", now, call, 0.0) | {
            "level": "error", "reason": "attempts", "error_type": "AttemptsExhaustedError", "cause": "etag_mismatch",
            "max_attempts": self.workload.max_attempts, "conflicts": call.attempt, "lost_s": round(call.lost_s, 6),
            "wait_s": round(call.wait_s, 6), "total_s": round(now - call.began, 6),
        }  # fmt: skip

    def _record(self, event: str, now: float, call: _Call, write_s: float) -> dict[str, Any]:
        writer, clocks = f"worker-{call.writer}", self.workload.clocks
        return {
            "v": 1, "event": event, "level": "info", "app": "shop",
            "timestamp": _iso(now + clocks[call.writer] if clocks else now),
            "inst": f"host-{call.writer}:1000" if clocks else f"host:{1000 + call.writer}", "writer": writer, "store": "statestore", "op": "update",
            "call_id": f"{call.number:016x}", "key": call.key, "key_tpl": "order-{id}",
            "race": f"{hash_race(call.key, call.base):016x}", "base_etag": str(call.base), "attempt": call.attempt,
            "read_s": round(call.read_s, 6), "fn_s": round(call.fn_s, 6), "write_s": write_s,
        }  # fmt: skip


def hash_race(key: str, version: int) -> int:
    """
    A number per key and version, the same in every run.
    """
    number = int.from_bytes(key.encode()[-8:], "big") * 0x9E3779B97F4A7C15 + version * 0xBF58476D1CE4E5B9
    return (number ^ (number >> 29)) & 0xFFFF_FFFF_FFFF_FFFF


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def write_logs(workload: Workload, paths: Mapping[int, str] | str) -> Truth:
    """
    Write the log to one file, or each writer's to its own, and answer the truth.
    """
    simulation, encode = Simulation(workload), msgspec.json.encode
    targets = dict.fromkeys(range(workload.writers), paths) if isinstance(paths, str) else dict(paths)
    files = {path: open(path, "wb") for path in set(targets.values())}  # noqa: SIM115, PTH123 - closed below
    try:
        for writer, record in simulation:
            files[targets[writer]].write(encode(record) + b"\n")
    finally:
        for file in files.values():
            file.close()
    return simulation.truth
