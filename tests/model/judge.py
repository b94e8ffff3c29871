"""
The judge of how the programs of the model end, and the search through all their states.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from tests.model.explorer import End, Explored, Explorer
from tests.model.network import alone
from tests.model.programs import Lists, Program, audit, rows_of, stamped_rows
from toolkit.core.model import Outcome
from toolkit.core.steps import Steps
from toolkit.errors import StateError


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
        self.programs, self.keys = tuple(one for program in programs for one in program.callers), keys
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
