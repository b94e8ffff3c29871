"""
What to change: each rule looks at the review and says so with its numbers, or says nothing.

Per key: L = writes a second, S = mean time from read to write. Writers that do not wait for each other get in each
other's way with a chance of about 1 - exp(-L*S), and no more than 1/S writes a second can succeed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, Final

from toolkit.review.answers import Row, read_from
from toolkit.review.engine import Review
from toolkit.review.finding import LEAST_LOSSES, Advice, confidence, milliseconds, percent
from toolkit.review.herd import herd
from toolkit.review.series import curve, predicted, tail_success
from toolkit.review.tally import KeyTally


class Load:
    """
    How busy a key is.
    """

    def __init__(self, row: KeyTally, seconds: float) -> None:
        self.row = row
        self.rate = row.tries / seconds
        self.busy = self.rate * row.window_s
        # The load had nobody retried: losses come back as more load, so only operations count.
        self.offered = (row.wins + row.gave_up) / seconds * row.window_s


def _seconds(review: Review) -> float:
    return max(review.axis.last - review.axis.first, 1.0)


def _hot(review: Review) -> list[KeyTally]:
    return sorted((row for row in review.keys.all() if row.losses), key=lambda row: -row.lost_s)[:20]


def _two_writers(row: KeyTally) -> float:
    """
    The share of a key's losses that its two busiest rivals, in either direction, make up.
    """
    sides: dict[frozenset[str], float] = {}
    for pair, (count, _) in row.rivals.items():
        sides[frozenset(pair)] = sides.get(frozenset(pair), 0) + count
    return max((n for pair, n in sides.items() if len(pair) == 2), default=0) / row.losses


def shard(review: Review) -> Iterator[Advice]:
    """
    A key that many writers change at once, too fast for one version counter.
    """
    whole = review.lost_s
    for row in _hot(review):
        load = Load(row, _seconds(review))
        writers = row.writers
        if row.losses < LEAST_LOSSES or row.lost_s < 0.2 * whole or len(writers) < 2 or load.busy <= 0.5:
            continue
        parts = min(1000, max(2, math.ceil(load.offered / 0.1)))
        yield Advice(
            "shard",
            f"Split {row.key} into {parts} sub-keys",
            f"{percent(row.lost_s, whole)} of the lost time is on this key: {len(writers)} writers make {load.rate:.3g} "
            f"attempts a second, each open to conflict for {milliseconds(row.window_s)}; {percent(row.losses, row.losses + row.wins)} "
            "of them lose.",
            f"Spread the value over {parts} keys (the writer picks one at random, a reader adds them up), which leaves about "
            "10 % conflicts on each; or let one place apply the changes in batches.",
            (row.key,),
            row.lost_s * 0.9,
            confidence(row.losses),
        )


def one_owner(review: Review) -> Iterator[Advice]:
    """
    Two rivals, or a saturated key: let one of them own it.
    """
    whole = review.lost_s
    for row in _hot(review):
        if row.losses < LEAST_LOSSES or row.lost_s < 0.1 * whole:
            continue
        load, two = Load(row, _seconds(review)), _two_writers(row)
        saturated = load.busy > 0.7
        if two <= 0.8 and not saturated:
            continue
        why = (
            f"Two writers make {100 * two:.0f} % of its {row.losses:.0f} losses against each other."
            if two > 0.8
            else f"Attempts overlap all the time ({load.rate:.3g} a second, {milliseconds(row.window_s)} each): it is saturated."
        )
        yield Advice(
            "one-owner",
            f"Give {row.key} one owner",
            why,
            "If it cannot be split, send its changes to one owner (an actor, a workflow or a queue), which then meets nobody.",
            (row.key,),
            row.lost_s * 0.8,
            confidence(row.losses),
        )


def _up_to_the_limit(review: Review) -> list[tuple[int, float, float]]:
    """
    The attempts by number, up to the last one at which somebody gave up: others may have more patience.
    """
    steps = curve(review)
    last = max((attempt for attempt, gave_up in enumerate(review.gave_up_at) if gave_up), default=0)
    return steps[:last] or steps


def raise_attempts(review: Review) -> Iterator[Advice]:
    """
    Give-ups although the last attempts still succeed often.
    """
    steps = _up_to_the_limit(review)
    gave_up = review.totals.reasons.get("attempts", 0) + review.totals.reasons.get("deadline", 0)
    success = tail_success(steps)
    if not gave_up or review.conflicts < LEAST_LOSSES or success < 0.3:
        return
    limit = len(steps)
    better = limit + 1
    while predicted(review, better) > 0.1 * predicted(review, limit) and better < limit + 40:
        better += 1
    yield Advice(
        "raise-attempts",
        f"Allow {better} attempts instead of {limit}",
        f"{gave_up:.0f} operations gave up, yet {100 * success:.0f} % of the last attempts succeed.",
        f"With {better} attempts (RetryPolicy(attempts={better}), or a longer deadline) about {predicted(review, better):.1f} "
        "would have given up.",
        _gave_up_keys(review),
        0.0,
        confidence(review.conflicts),
    )


def attempts_will_not_help(review: Review) -> Iterator[Advice]:
    """
    Give-ups where more attempts only add load.
    """
    steps = _up_to_the_limit(review)
    gave_up = review.totals.reasons.get("attempts", 0) + review.totals.reasons.get("deadline", 0)
    success = tail_success(steps)
    if not gave_up or review.conflicts < LEAST_LOSSES or success >= 0.1:
        return
    yield Advice(
        "attempts-will-not-help",
        "More attempts will not help",
        f"{gave_up:.0f} operations gave up and only {100 * success:.0f} % of the last attempts succeed: the keys are saturated.",
        "Split the key or give it one owner; more attempts only add load.",
        _gave_up_keys(review),
        0.0,
        confidence(review.conflicts),
    )


def _gave_up_keys(review: Review) -> tuple[str, ...]:
    rows = sorted((row for row in review.keys.all() if row.gave_up), key=lambda row: -row.gave_up)
    return tuple(row.key for row in rows[:3])


def wait_longer(review: Review) -> Iterator[Advice]:
    """
    Losers come back before the winner's window is over.
    """
    losses = review.conflicts
    rows = _hot(review)
    if losses < LEAST_LOSSES:
        return
    window, waited = (
        sum(row.lost_s for row in rows) / sum(row.losses for row in rows),
        review.waits.quantile(0.5),
    )
    again = sum(review.lost_at[2:]) / losses
    if not review.waits.count() or waited >= window or again < 0.2:
        return
    yield Advice(
        "wait-longer",
        f"Wait at least {milliseconds(window)} before the second attempt",
        f"Half of the waits are under {milliseconds(waited)}, less than the {milliseconds(window)} from read to write, and "
        f"{percent(again, 1)} of the lost attempts are second or later ones.",
        f"Use RetryPolicy(initial={window:.3g}) or more, with full jitter (the default).",
        tuple(row.key for row in rows[:3]),
        0.3 * review.lost_s,
        confidence(losses),
    )


def slow_function(review: Review) -> Iterator[Advice]:
    """
    The user's function takes most of the window in which others get in the way.
    """
    for row in _hot(review):
        if row.losses < LEAST_LOSSES or row.fn_s <= 0.5 * row.lost_s or row.lost_s < 0.05 * review.lost_s:
            continue
        mean = row.fn_s / row.losses
        yield Advice(
            "slow-function",
            f"Shorten the function that changes {row.key}",
            f"It takes {milliseconds(mean)} of the {milliseconds(row.window_s)} between read and write "
            f"({percent(row.fn_s, row.lost_s)}); {row.losses:.0f} attempts were lost.",
            "Move calls and heavy work out of the function, before the read or after the write.",
            (row.key,),
            row.fn_s,
            confidence(row.losses),
        )


def outside_writer(review: Review) -> Iterator[Advice]:
    """
    Losses to nobody in this log.
    """
    rows = sorted((row for row in review.keys.all() if row.unmatched), key=lambda row: -row.unmatched)
    unmatched, losses = sum(row.unmatched for row in rows), review.conflicts
    if losses < LEAST_LOSSES or unmatched <= 0.05 * losses:
        return
    foreign = review.totals.foreign
    certain = (
        f"; {foreign:.0f} of them met a value without the toolkit's stamp"
        if foreign
        else "; perhaps a log is missing here"
    )
    yield Advice(
        "outside-writer",
        "Find the writer that is not in this log",
        f"{percent(unmatched, losses)} of the losses ({unmatched:.0f}) have no winner in these files{certain}.",
        "Let that writer use the toolkit, or add its log. If it is meant to write plainly, keep it off these keys.",
        tuple(row.key for row in rows[:5]),
        sum(row.lost_s * row.unmatched / row.losses for row in rows if row.losses),
        "high" if foreign > 0.5 * unmatched else confidence(unmatched),
    )


def lost_to_itself(review: Review) -> Iterator[Advice]:
    """
    A resent write met itself.
    """
    own, losses = review.totals.maybe_self, review.conflicts
    if losses < LEAST_LOSSES or own <= 0.01 * losses:
        return
    yield Advice(
        "lost-to-itself",
        "Stop lower layers from sending writes again",
        f"{own:.0f} of {losses:.0f} lost attempts found the very value they had tried to write: probably their own write, "
        "sent again by a retry below.",
        "Take retries off the state component (components/resiliency.yaml), or pass op_id=, which recognises the own write.",
        (),
        0.0,
        confidence(losses),
    )


def create_race(review: Review) -> Iterator[Advice]:
    """
    Several create the same key; one wins, which is no fault.
    """
    exists, losses = review.totals.causes.get("exists", 0), review.conflicts
    if losses < LEAST_LOSSES or exists <= 0.2 * losses:
        return
    yield Advice(
        "create-race",
        "Make creating idempotent",
        f"{percent(exists, losses)} of the losses are creates of a key that another had just created.",
        "Use update(key, change, default=...), or treat AlreadyExistsError as success. It is not an error in the data.",
        tuple(row.key for row in _hot(review)[:3]),
        0.0,
        confidence(exists),
    )


RULES: Final[dict[str, Callable[[Review], Iterator[Advice]]]] = {
    "shard": shard,
    "one-owner": one_owner,
    "raise-attempts": raise_attempts,
    "attempts-will-not-help": attempts_will_not_help,
    "wait-longer": wait_longer,
    "slow-function": slow_function,
    "outside-writer": outside_writer,
    "lost-to-itself": lost_to_itself,
    "create-race": create_race,
    "herd": herd,
}


def advise(review: Review) -> list[Advice]:
    """
    All findings, the most promising first; none below 50 losses.
    """
    found = [advice for rule in RULES.values() for advice in rule(review)]
    shared = {advice.keys for advice in found if advice.rule == "shard"}
    # A key that can be split needs no owner as well, unless two writers are the whole story.
    kept = [
        one for one in found if one.rule != "one-owner" or one.keys not in shared or one.why.startswith("Two")
    ]
    return sorted(kept, key=lambda advice: -advice.gain_s)


def answer(review: Review) -> Row:
    """
    The findings as plain data.
    """
    rows: list[dict[str, Any]] = [asdict(advice) | {"keys": list(advice.keys)} for advice in advise(review)]
    return {
        "advice": rows,
        "losses": review.conflicts,
        "least_losses": LEAST_LOSSES,
        "read": read_from(review),
    }
