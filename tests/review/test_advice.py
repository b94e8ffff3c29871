"""
Every rule has a log on which it must speak and one on which it must not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest

from tests.review.conftest import at, failed, lost, won
from toolkit.review.advice import LEAST_LOSSES, RULES, advise
from toolkit.review.engine import Review

Lines = Iterator[dict[str, Any]]


def said(lines: Lines) -> dict[str, Any]:
    review = Review()
    review.feed(b"\n".join(json.dumps(line).encode() for line in lines))
    review.finish()
    return {advice.rule: advice for advice in advise(review)}


def hot(seconds: float = 10.0, *, losses: int = 400, wins: int = 600, writers: int = 4, window: float = 0.01, fn: float = 0.0,
        wait: float = 0.02, attempts: int = 1, **more: Any) -> Lines:  # fmt: skip
    """One key under load: losses and wins spread over some seconds, each loss with a logged winner of another writer."""
    times = {
        "read_s": (window - fn) / 2,
        "fn_s": fn,
        "write_s": (window - fn) / 2,
        "wait_s": wait,
        "lost_s": window,
    }
    for n in range(wins):
        yield won(
            seconds * n / wins,
            key="hot",
            writer=f"w{n % writers}",
            write_id=f"aa-{n:x}",
            read_s=times["read_s"],
            fn_s=fn,
        )
    for n in range(losses):
        loser = f"w{(n + 1) % writers}"
        yield lost(
            seconds * n / losses,
            key="hot",
            writer=loser,
            attempt=1 + n % attempts,
            **({"winner": f"aa-{n % wins:x}"} | times | more),
        )


def calm() -> Lines:
    """Hardly any conflict, over a hundred keys."""
    for n in range(1_000):
        yield won(n / 20, key=f"k{n % 100}", write_id=f"aa-{n:x}")
    for n in range(100):
        yield lost(n / 2, key=f"k{n}", winner=f"aa-{n:x}", wait_s=0.02)


def giving_up(*, success: float, limit: int = 4) -> Lines:
    """Operations whose attempts each succeed with the same chance; what is left after the limit gives up."""
    left, n = 400.0, 0
    for attempt in range(1, limit + 1):
        through = left * success
        for _ in range(round(through)):
            n += 1
            yield won(n / 50, key=f"k{n % 40}", attempt=attempt, write_id=f"aa-{n:x}")
        for _ in range(round(left - through)):
            n += 1
            yield lost(n / 50, key=f"k{n % 40}", attempt=attempt, winner="aa-1", wait_s=0.02)
        left -= through
    for _ in range(round(left)):
        n += 1
        yield failed(n / 50, key=f"k{n % 40}", attempt=limit)


def rounds(spread: float) -> Lines:
    """Five minutes, each of which has its losses in the first seconds."""
    for minute in range(5):
        for n in range(60):
            yield won(60 * minute + n, write_id=f"aa-{minute}{n:02d}")
            yield lost(60 * minute + spread * n / 60, winner="aa-000")


FIRE: dict[str, tuple[Any, Any]] = {
    # rule: (a log on which it must speak, a log on which it must not)
    "shard": (hot, lambda: hot(seconds=200.0)),
    "one-owner": (lambda: hot(writers=2), lambda: hot(seconds=200.0)),
    "raise-attempts": (lambda: giving_up(success=0.5), lambda: giving_up(success=0.05)),
    "attempts-will-not-help": (lambda: giving_up(success=0.04), lambda: giving_up(success=0.5)),
    "wait-longer": (lambda: hot(wait=0.001, attempts=3), lambda: hot(wait=0.05, attempts=3)),
    "slow-function": (lambda: hot(fn=0.008), lambda: hot(fn=0.001)),
    "outside-writer": (lambda: hot(winner="", winner_kind="foreign"), hot),
    "lost-to-itself": (lambda: hot(maybe_self=True), hot),
    "create-race": (lambda: hot(cause="exists"), hot),
    "herd": (lambda: rounds(spread=1.0), lambda: rounds(spread=59.3)),
}  # fmt: skip


def test_every_rule_is_tried():
    """
    No rule without its two logs.
    """
    assert list(FIRE) == list(RULES)


@pytest.mark.parametrize("rule", FIRE)
def test_a_rule_speaks_where_it_must(rule: str):
    """
    On its log the rule fires, with numbers and a change to make.
    """
    advice = said(FIRE[rule][0]())[rule]
    assert any(sign.isdigit() for sign in advice.why)
    assert advice.do
    assert advice.confidence in ("high", "medium", "low")


@pytest.mark.parametrize("rule", FIRE)
def test_a_rule_is_silent_where_it_must(rule: str):
    """
    On a log that differs in the one thing it looks at, it says nothing.
    """
    assert rule not in said(FIRE[rule][1]())


def test_a_calm_log_gets_no_advice():
    """
    A conflict here and there is how optimistic concurrency works.
    """
    assert said(calm()) == {}


def test_nothing_is_said_of_few_losses():
    """
    Below 50 losses no rule speaks.
    """
    assert LEAST_LOSSES == 50
    assert said(hot(losses=49, maybe_self=True)) == {}


def test_confidence_grows_with_what_was_seen():
    """
    The same finding from more losses is surer.
    """
    found = [said(hot(losses=n, seconds=2.0))["shard"].confidence for n in (60, 200, 600)]
    assert found == ["low", "medium", "high"]


def test_two_rivals_are_named_as_two():
    """
    Where two writers are the whole story, an owner is advised beside the split.
    """
    assert said(hot(writers=2))["one-owner"].why.startswith("Two writers make")
    assert "one-owner" not in said(hot(writers=6, seconds=20.0))


def test_shards_suffice():
    """
    The advised number of sub-keys leaves about ten percent conflicts on each, by the model the advice names.
    """
    advice = said(hot())["shard"]
    parts = int(advice.title.split()[-2])
    rate, window = 600 / 10, 0.01
    assert 1 - math.exp(-rate / parts * window) <= 0.11


def test_one_burst_is_no_herd():
    """
    A start at which everybody meets is not a schedule.
    """
    lines = [won(0, write_id="aa-0"), *(lost(10 + n / 1000, winner="aa-0") for n in range(90)), won(200)]
    assert "herd" not in said(iter(lines))


def test_times_are_what_they_seem():
    """
    The helper of these tests writes times in order.
    """
    assert at(61.5) == "2026-01-05T09:01:01.500000Z"


def test_the_limit_is_that_of_those_who_gave_up():
    """
    Callers with more patience, who went on, do not raise the limit that was met.
    """

    def mixed() -> Lines:
        for n in range(60):
            when = n / 10
            yield from (won(when), won(when), lost(when), failed(when, attempt=1))
            yield from (lost(when), lost(when, attempt=2), won(when, attempt=3))

    assert said(mixed())["raise-attempts"].title.endswith(" attempts instead of 1")
