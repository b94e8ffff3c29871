"""
Random histories of one key: executions of a real register, with lost answers, some of them tampered with.
"""

from __future__ import annotations

import random
from typing import Any

from toolkit.testing.history import Op


def apply(state: Any, f: str, arg: Any) -> tuple[Any, Any]:
    """The register, written for the tests: the new state and the answer."""
    if f == "read":
        return state, state
    if f == "write":
        return arg, None
    if f == "del":
        return None, None
    if f == "cas":
        return (arg[1], True) if arg[0] == state else (state, False)
    return (state or 0) + arg, (state or 0) + arg


def draw(source: random.Random, values: int) -> tuple[str, Any]:
    f = source.choice(["read", "read", "write", "cas", "inc", "del"])
    if f == "write":
        return f, source.randrange(values)
    if f == "cas":
        return f, [source.choice([None, *range(values)]), source.randrange(values)]
    return f, 1 if f == "inc" else None


def random_history(
    seed: int, *, ops: int = 10, procs: int = 4, values: int = 3, unknown: float = 0.2, tamper: float = 0.5
) -> list[Op]:
    """Clients that overlap at random; each operation takes effect at one random moment of its interval."""
    source = random.Random(seed)
    free = [0] * procs
    drafts: list[tuple[int, int, int, int, str, Any, str]] = []
    for name in range(ops):
        proc = source.randrange(procs)
        call = free[proc] + source.randrange(1, 10)
        ret = call + source.randrange(0, 20)
        free[proc] = ret + 1
        lost = source.random() < unknown
        moment = source.randrange(call, ret + (60 if lost else 1))
        drafts.append((moment, name, proc, call, *draw(source, values), f"{'info' if lost else 'ok'}:{ret}"))
    state: Any = None
    history: list[Op] = []
    for _, name, proc, call, f, arg, fate in sorted(drafts, key=lambda draft: (draft[0], source.random())):
        kind, _, ret = fate.partition(":")
        out = None
        if kind == "ok" or source.random() < 0.5:
            state, out = apply(state, f, arg)
        elif source.random() < 0.3:
            kind = "fail"
        certain: Any = kind
        answer = out if kind == "ok" else None
        history.append(Op(name, proc, f, certain, call, int(ret), "k", arg, answer))
    return [spoil(op, source, values) if source.random() < tamper / ops else op for op in history]


def spoil(op: Op, source: random.Random, values: int) -> Op:
    """Give an answer that may be wrong."""
    if op.type != "ok" or op.f in {"write", "del"}:
        return op
    out = (not op.out) if op.f == "cas" else source.choice([None, *range(values + 1)])
    if op.f == "inc" and out is None:
        out = 0
    return Op(op.id, op.proc, op.f, op.type, op.call, op.ret, op.key, op.arg, out)


def long_history(seed: int, *, ops: int, unknown: float, functions: list[str], procs: int = 8) -> list[Op]:
    """A clean history of clients that write values of their own and compare with what they last read."""
    source = random.Random(seed)
    free = [0] * procs
    drafts: list[tuple[int, int, int, int, int, bool]] = []
    for name in range(ops):
        proc = source.randrange(procs)
        call = free[proc] + source.randrange(1, 10)
        ret = call + source.randrange(0, 20)
        free[proc] = ret + 1
        lost = source.random() < unknown
        drafts.append((source.randrange(call, ret + (60 if lost else 1)), name, proc, call, ret, lost))
    state: Any = None
    seen: dict[int, Any] = {}
    history: list[Op] = []
    for _, name, proc, call, ret, lost in sorted(drafts):
        f = source.choice(functions)
        arg = {"write": name, "cas": [source.choice([state, seen.get(proc)]), name], "inc": 1}.get(f)
        out = None
        if not lost or source.random() < 0.5:
            state, out = apply(state, f, arg)
        if f == "read" and not lost:
            seen[proc] = state
        history.append(
            Op(name, proc, f, "info" if lost else "ok", call, ret, "k", arg, None if lost else out)
        )
    return history
