"""
Cycles in a graph of transactions: components, shortest ways, and who reaches whom.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

Label: TypeAlias = Literal["ww", "wr", "rw", "rt"]
Edges: TypeAlias = Mapping[int, Mapping[int, Label]]


class Graph:
    """
    Directed edges with one label each: of several between the same two nodes the first one is kept.
    """

    def __init__(self) -> None:
        self.edges: dict[int, dict[int, Label]] = {}

    def add(self, source: int, target: int, label: Label) -> None:
        if source != target:
            self.edges.setdefault(source, {}).setdefault(target, label)

    def only(
        self, labels: Iterable[Label], nodes: frozenset[int] | None = None
    ) -> dict[int, dict[int, Label]]:
        """
        The part of the graph with these labels, and within *nodes*.
        """
        kept = frozenset(labels)
        part: dict[int, dict[int, Label]] = {}
        for source, targets in self.edges.items():
            if nodes is None or source in nodes:
                chosen: dict[int, Label] = {
                    target: label
                    for target, label in targets.items()
                    if label in kept and (nodes is None or target in nodes)
                }
                if chosen:
                    part[source] = chosen
        return part


def components(edges: Edges) -> list[list[int]]:
    """
    The strongly connected components of more than one node (Tarjan's way, without recursion).
    """
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    found: list[list[int]] = []
    for root in edges:
        if root in index:
            continue
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        work = [(root, iter(edges[root]))]
        while work:
            node, targets = work[-1]
            for target in targets:
                if target not in index:
                    index[target] = low[target] = len(index)
                    stack.append(target)
                    on_stack.add(target)
                    work.append((target, iter(edges.get(target, ()))))
                    break
                if target in on_stack:
                    low[node] = min(low[node], index[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    _pop(node, stack, on_stack, found)
    return found


def _pop(node: int, stack: list[int], on_stack: set[int], found: list[list[int]]) -> None:
    at = len(stack) - 1
    while stack[at] != node:
        at -= 1
    component = stack[at:]
    del stack[at:]
    on_stack.difference_update(component)
    if len(component) > 1:
        found.append(component)


def way(edges: Edges, source: int, target: int) -> list[int] | None:
    """
    A shortest way from *source* to *target*, both included; ``None`` when there is none.
    """
    before = {source: source}
    agenda = deque([source])
    while agenda:
        node = agenda.popleft()
        if node == target:
            path = [node]
            while path[-1] != source:
                path.append(before[path[-1]])
            return path[::-1]
        for following in edges.get(node, ()):
            if following not in before:
                before[following] = node
                agenda.append(following)
    return None


def reachable(edges: Edges, nodes: Sequence[int]) -> dict[int, int]:
    """
    For each node of an acyclic graph the nodes it reaches, as a bit for each place in *nodes*.
    """
    bit = {node: 1 << place for place, node in enumerate(nodes)}
    reach: dict[int, int] = {}
    for root in nodes:
        work = [root]
        while work:
            node = work[-1]
            waiting = [target for target in edges.get(node, ()) if target in bit and target not in reach]
            if waiting and node not in reach:
                work.extend(waiting)
                continue
            work.pop()
            if node not in reach:
                reach[node] = bit[node]
                for target in edges.get(node, ()):
                    reach[node] |= reach.get(target, 0)
    return reach
