"""
What a store object learns of the arguments of a body.
"""

from __future__ import annotations

from typing import Any, Final

from toolkit.core.habits import Habits

NOTHING: Final = frozenset[str]()


def learn(habits: Habits, *args: Any, reads: str, expected: frozenset[str] = NOTHING, **kwargs: Any) -> None:
    habits.learn("move", args, kwargs, set(reads), apart=len(reads), expected=expected)


def test_arguments_that_were_read_one_by_one_are_expected() -> None:
    """By position or by name; other texts, numbers and bodies are left alone."""
    habits = Habits()
    assert habits.expect("move", ("a", "b", "note"), {}) == NOTHING
    learn(habits, "a", "note", 5, reads="ab", to="b")
    assert habits.expect("move", ("c", "x", 5), {"to": "d"}) == {"c", "d"}
    assert habits.expect("other", ("c", "x", 5), {"to": "d"}) == NOTHING


def test_a_call_of_another_shape_is_guessed_at_as_far_as_it_goes() -> None:
    """Fewer arguments, or no texts, are no error."""
    habits = Habits()
    learn(habits, "a", "b", reads="ab")
    assert habits.expect("move", ("c",), {}) == {"c"}
    assert habits.expect("move", (1, None), {}) == NOTHING


def test_one_read_teaches_nothing() -> None:
    """There is nothing to fetch with it; nor is there with keys that the body makes up itself."""
    habits = Habits()
    learn(habits, "a", "b", reads="a")
    learn(habits, "p", "q", reads="ab")
    assert habits.expect("move", ("a", "b"), {}) == NOTHING


def test_a_wrong_guess_weighs_more_than_a_right_one() -> None:
    """A body that reads its second key now and then is not guessed at; one that nearly always does is."""
    habits = Habits()
    both = frozenset("ab")
    learn(habits, "a", "b", reads="ab")
    learn(habits, "a", "b", reads="a", expected=both)
    assert habits.expect("move", ("a", "b"), {}) == NOTHING
    for _ in range(2):
        learn(habits, "a", "b", reads="ab")
    for _ in range(9):
        learn(habits, "a", "b", reads="ab", expected=both)
    learn(habits, "a", "b", reads="a", expected=both)
    assert habits.expect("move", ("a", "b"), {}) == both


def test_it_remembers_so_many_bodies() -> None:
    """A program that names its bodies anew for every call does not fill the memory."""
    habits = Habits()
    for number in range(1000):
        habits.learn(f"body-{number}", ("a", "b"), {}, {"a", "b"}, apart=2, expected=NOTHING)
    assert len(habits._known) <= 256
