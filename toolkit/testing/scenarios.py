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

import sys
from collections.abc import Generator, Iterable

from toolkit.testing._registers import register
from toolkit.testing._scenario import Finding, Plan, plan_of
from toolkit.testing._tokens import tokens


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
