"""
How long to try and to wait: arithmetic.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.core.policy import CAP_ROUND_TRIPS, FLOOR, RetryPolicy

seconds = st.floats(0.0, 100.0, allow_nan=False)


@given(
    st.integers(0, 10_000),
    seconds,
    st.floats(0, 1, exclude_max=True),
    st.none() | seconds,
    st.none() | seconds,
)
def test_a_wait_is_never_longer_than_its_cap(
    losses: int, round_trip: float, chance: float, initial: float | None, maximum: float | None
) -> None:
    """Full jitter from zero to a cap that doubles and ends at the maximum."""
    wait = RetryPolicy(initial=initial, maximum=maximum).wait(losses, round_trip, chance)
    unit = max(round_trip, FLOOR)
    cap = maximum if maximum is not None else unit * CAP_ROUND_TRIPS
    first = initial if initial is not None else unit
    assert 0.0 <= wait <= min(cap, first * 2.0 ** max(losses - 2, 0) if losses < 1000 else cap)


@given(st.integers(2, 100), seconds)
def test_the_caps_grow(losses: int, round_trip: float) -> None:
    """One more loss never shortens the cap."""
    policy = RetryPolicy()
    assert policy.wait(losses, round_trip, 0.99) <= policy.wait(losses + 1, round_trip, 0.99)


def test_the_first_retry_comes_at_once() -> None:
    """After one loss the fresh value is at hand: waiting would only lose another race."""
    assert [RetryPolicy().wait(losses, 0.01, 0.5) for losses in range(5)] == [0.0, 0.0, 0.005, 0.01, 0.02]


def test_attempts_count_the_first() -> None:
    """``attempts=1`` is one attempt and no retry; None is no limit."""
    assert [RetryPolicy(attempts=2).allows(made) for made in (1, 2, 3)] == [True, False, False]
    assert RetryPolicy().allows(10**9)


@pytest.mark.parametrize(
    "options",
    [
        {"attempts": 0},
        {"attempts": 1.5},
        {"attempts": True},
        {"deadline": 0},
        {"deadline": -1},
        {"deadline": math.inf},
        {"deadline": math.nan},
        {"deadline": "5"},
        {"initial": -0.1},
        {"maximum": math.inf},
    ],
)
def test_a_policy_that_cannot_work_is_refused(options: dict[str, object]) -> None:
    """The error repeats what was passed and says what is wanted."""
    with pytest.raises(ValueError, match=r"RetryPolicy\("):
        RetryPolicy(**options)  # type: ignore[arg-type]
