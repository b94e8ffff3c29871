"""
Is a history of list-append transactions strict serializable?

Every transaction appends values that are unique per key, and reads whole lists. A list then tells the order of its
writers, which gives the dependencies between transactions: ``ww`` from writer to next writer, ``wr`` from a writer to
who read it last, ``rw`` from a reader to who appended next, ``rt`` from one that returned to one that was called later.
A cycle among them is an anomaly, and its kind is told by its edges (Adya's names; the method is that of Elle).

The final state is given as ``final=`` or as a last operation ``f: "final"`` that reads every key after quiescence.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal, TypeAlias

from toolkit.testing._cycles import Graph, Label, components, reachable, way
from toolkit.testing.history import Op

Kind: TypeAlias = Literal[
    "internal", "duplicate", "incompatible-order", "garbage", "G1a", "G1b", "lost", "G0", "G1c", "G-single", "G2-item",
    "strict-1SR",
]  # fmt: skip

Version: TypeAlias = tuple[str, Hashable]

FUNCTIONS: Final = frozenset({"txn", "final"})


@dataclass(frozen=True, slots=True)
class Anomaly:
    """
    One finding.

    Attributes:
        ops: The ids of the transactions concerned; for a cycle in its order.
        detail: What was seen, in words.
    """

    kind: Kind
    ops: tuple[int, ...]
    detail: str


@dataclass(frozen=True, slots=True)
class AppendReport:
    """
    Everything found in a history; nothing found means strict serializable, as far as its reads tell.

    Attributes:
        transactions: How many of each outcome were looked at.
    """

    anomalies: tuple[Anomaly, ...]
    transactions: Counter[str]

    @property
    def ok(self) -> bool:
        return not self.anomalies

    @property
    def kinds(self) -> frozenset[Kind]:
        return frozenset(anomaly.kind for anomaly in self.anomalies)

    def __str__(self) -> str:
        lines = [f"{anomaly.kind}: {anomaly.detail}" for anomaly in self.anomalies[:20]]
        more = len(self.anomalies) - len(lines)
        return "\n".join([*lines, f"and {more} more"] if more else lines) or "strict serializable"


def check_append(
    history: Iterable[Op], *, final: Mapping[str, Sequence[Hashable]] | None = None
) -> AppendReport:
    """
    Find every anomaly of *history*; of cycles one for each component and kind.

    Raises:
        ValueError: An operation is no transaction of reads (``r``) and appends, or a value is appended twice.
    """
    ops = list(history)
    for op in ops:
        if op.f not in FUNCTIONS or any(name not in {"r", "append"} for name, _, _ in op.mops):
            raise ValueError(
                f'operation {op.id} is no list-append transaction: "mops" are ["r", key, list] or ["append", key, value]'
            )
    return _Check(ops, final).run()


class _Check:
    def __init__(self, ops: list[Op], final: Mapping[str, Sequence[Hashable]] | None) -> None:
        self.ops = ops
        self.found: list[Anomaly] = []
        self.writers: dict[Version, int] = {}
        self.last: dict[tuple[int, str], Hashable] = {}
        self.appended: defaultdict[str, list[tuple[Hashable, int]]] = defaultdict(list)
        for at, op in enumerate(ops):
            for name, key, value in op.mops:
                if name == "append":
                    if (key, value) in self.writers:
                        raise ValueError(
                            f"{value!r} is appended to {key} twice: values must be unique per key"
                        )
                    self.writers[key, value] = at
                    self.last[at, key] = value
                    self.appended[key].append((value, at))
        self.reads = [
            (at, key, seen, own)
            for at, op in enumerate(ops)
            if op.type == "ok"
            for key, seen, own in self._read(op)
        ]
        self.final = {key: tuple(values) for key, values in (final or {}).items()}
        for at, key, seen, _ in self.reads:
            if ops[at].f == "final":
                self.final[key] = seen
        self.order: dict[str, tuple[Hashable, ...]] = dict(self.final)
        for _, key, seen, _ in self.reads:
            if len(seen) > len(self.order.setdefault(key, ())):
                self.order[key] = seen

    def run(self) -> AppendReport:
        for key, values in self.order.items():
            self._contents(key, values, ())
        for at, key, seen, own in self.reads:
            self._judge(at, key, seen, own)
        for key, values in self.final.items():
            self._check_final(key, values)
        self._cycles(self._graph())
        return AppendReport(tuple(dict.fromkeys(self.found)), Counter(op.type for op in self.ops))

    def _add(self, kind: Kind, ops: Iterable[int], detail: str) -> None:
        self.found.append(Anomaly(kind, tuple(self.ops[at].id for at in ops), detail))

    # Reads -----------------------------------------------------------------------------------------------------------

    def _read(self, op: Op) -> Iterable[tuple[str, tuple[Hashable, ...], int]]:
        """
        The reads of a transaction: key, what it saw, and how many of its own appends that should end with.
        """
        own: defaultdict[str, list[Hashable]] = defaultdict(list)
        before: dict[str, tuple[Hashable, ...]] = {}
        for name, key, value in op.mops:
            if name == "append":
                own[key].append(value)
                continue
            seen = tuple(value or ())
            mine = tuple(own[key])
            expected = (*before[key], *mine) if key in before else None
            if (mine and seen[-len(mine) :] != mine) or (expected is not None and seen != expected):
                self.found.append(
                    Anomaly(
                        "internal",
                        (op.id,),
                        f"transaction {op.id} read {key} as {_short(seen)}, which is not what it read and appended itself",
                    )
                )
            before[key] = seen[: len(seen) - len(mine)]
            yield key, seen, len(mine)

    def _contents(self, key: str, seen: tuple[Hashable, ...], who: tuple[int, ...]) -> None:
        """
        Check the values of a list one by one.
        """
        if len(set(seen)) != len(seen):
            twice = [value for value, count in Counter(seen).items() if count > 1]
            self._add("duplicate", who, f"{key} holds {twice[0]!r} twice: {_short(seen)}")
        for value in seen:
            writer = self.writers.get((key, value))
            if writer is None:
                self._add("garbage", who, f"{key} holds {value!r}, which nobody appended")
            elif self.ops[writer].type == "fail":
                self._add(
                    "G1a",
                    (*who, writer),
                    f"{key} holds {value!r} of transaction {self.ops[writer].id}, which failed",
                )

    def _judge(self, at: int, key: str, seen: tuple[Hashable, ...], own: int) -> None:
        if seen != self.order[key][: len(seen)]:
            self._contents(key, seen, (at,))
            self._add(
                "incompatible-order",
                (at,),
                f"{key} was read as {_short(seen)}, no beginning of {_short(self.order[key])}",
            )
        others = seen[: len(seen) - own]
        if others:
            writer = self.writers.get((key, others[-1]))
            if writer is not None and writer != at and self.last[writer, key] != others[-1]:
                self._add(
                    "G1b",
                    (at, writer),
                    f"{key} was read up to {others[-1]!r}, in the middle of transaction {self.ops[writer].id}",
                )

    def _check_final(self, key: str, values: tuple[Hashable, ...]) -> None:
        if values != self.order[key][: len(values)]:
            self._add(
                "incompatible-order",
                (),
                f"{key} ends as {_short(values)}, no beginning of {_short(self.order[key])}",
            )
        present = set(values)
        for value, writer in self.appended.get(key, ()):
            if value not in present and self.ops[writer].type == "ok":
                self._add(
                    "lost",
                    (writer,),
                    f"{key} ends without {value!r} of transaction {self.ops[writer].id}, which was acknowledged",
                )

    # Dependencies ----------------------------------------------------------------------------------------------------

    def _graph(self) -> Graph:
        graph = Graph()  # it keeps the first label between two nodes: the strongest goes first
        anti: list[tuple[int, int]] = []
        places: dict[Version, int] = {}
        for key, values in self.order.items():
            writers = [self.writers.get((key, value)) for value in values]
            places.update({(key, value): place for place, value in reversed(list(enumerate(values)))})
            for first, second in pairwise(writers):
                if first is not None and second is not None:
                    graph.add(first, second, "ww")
        for at, key, seen, own in self.reads:
            others = seen[: len(seen) - own]
            order = self.order[key]
            following = 0
            if others:
                writer = self.writers.get((key, others[-1]))
                if writer is not None:
                    graph.add(writer, at, "wr")
                following = places.get((key, others[-1]), len(order)) + 1
            if following < len(order):
                writer = self.writers.get((key, order[following]))
                if writer is not None:
                    anti.append((at, writer))
        for reader, writer in anti:
            graph.add(reader, writer, "rw")
        return graph

    def _real_time(self, graph: Graph) -> None:
        """
        Add ``rt`` edges, transitively reduced: only from those returned that nobody returned since was called after.
        """
        moments: list[tuple[int, int, int]] = []
        for at, op in enumerate(self.ops):
            if op.type != "fail":
                moments.append((op.call, 0, at))
                if op.type == "ok" and op.ret is not None:
                    moments.append((op.ret, 1, at))
        latest: set[int] = set()
        before: dict[int, frozenset[int]] = {}
        for _, ends, at in sorted(moments):
            if not ends:
                before[at] = frozenset(latest)
                for earlier in latest:
                    graph.add(earlier, at, "rt")
            else:
                latest -= before.pop(at)
                latest.add(at)

    # Cycles ----------------------------------------------------------------------------------------------------------

    def _cycles(self, graph: Graph) -> None:
        count = len(self.found)
        for component in components(graph.only(("ww", "wr", "rw"))):
            self._classify(graph, frozenset(component))
        if len(self.found) == count:
            self._real_time(graph)
            for component in components(graph.edges):
                edges = graph.only(("ww", "wr", "rw", "rt"), frozenset(component))
                source, target = next(
                    (a, b) for a, row in edges.items() for b, label in row.items() if label == "rt"
                )
                self._report("strict-1SR", graph, edges, source, target)

    def _classify(self, graph: Graph, nodes: frozenset[int]) -> None:
        writes, known = graph.only(("ww",), nodes), graph.only(("ww", "wr"), nodes)
        sure = False
        for component in components(writes):
            source = component[0]
            self._report("G0", graph, writes, source, next(to for to in writes[source] if to in component))
            sure = True
        for component in components(known):
            inside = graph.only(("ww", "wr"), frozenset(component))
            read = next(
                ((a, b) for a, row in inside.items() for b, label in row.items() if label == "wr"), None
            )
            if read is not None:
                self._report("G1c", graph, inside, *read)
                sure = True
        if sure:
            return
        everything = graph.only(("ww", "wr", "rw"), nodes)
        members = sorted(nodes)
        reach = reachable(known, members)
        bit = {node: 1 << place for place, node in enumerate(members)}
        anti = [(a, b) for a, row in everything.items() for b, label in row.items() if label == "rw"]
        single = next(((a, b) for a, b in anti if reach[b] & bit[a]), None)
        if single is not None:
            self._report("G-single", graph, known, *single)
        else:
            self._report("G2-item", graph, everything, *anti[0])

    def _report(
        self, kind: Kind, graph: Graph, edges: Mapping[int, Mapping[int, Label]], source: int, target: int
    ) -> None:
        back = way(edges, target, source)
        if back is None:
            raise AssertionError(f"no way back from {target} to {source} in one component")
        cycle = [source, *back]
        words = [str(self.ops[source].id)]
        for first, second in pairwise(cycle):
            words.append(f"-{graph.edges[first][second]}-> {self.ops[second].id}")
        self._add(kind, cycle[:-1], "cycle " + " ".join(words[:60]))


def _short(values: Sequence[Any]) -> str:
    text = ", ".join(map(repr, values))
    return f"[{text}]" if len(text) <= 80 else f"[{text[:38]} … {text[-38:]}]"
