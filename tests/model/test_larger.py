"""
Larger configurations of the model, and plain writers beside transactions: for the long run of the tests.

The numbers of states of a similar model are in the table of protocol variants that this path was chosen from; these are
those of the shipped code, so they differ.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.model.programs import Program
from tests.model.rows import Table, check_rows
from tests.model.test_model import AB, pair, skew

ABC: Final = ("a", "b", "c")
UPDATES: Final = {key: Program(f"u{key}", (key,), (key,), "update") for key in AB}


def plain(kind: str, key: str) -> Program:
    """A plain writer of one key."""
    return Program("f", (key,), (key,), kind)


def triple(**options: Any) -> tuple[Program, ...]:
    """Three transactions over the same two keys."""
    return tuple(Program(name, AB, AB, **options) for name in "stv")


# Each reads two keys and writes one: every one of them is at odds with the next.
CYCLE: Final = (
    Program("s", ("a", "b"), ("a",)),
    Program("t", ("b", "c"), ("b",)),
    Program("v", ("c", "a"), ("c",)),
)

ROWS: Final[Table] = {
    "ab x3": (triple(), 0, 0, {}),
    "ab x2, two faults": (pair(), 2, 1, {}),
    "ab x2, two attempts each": (
        tuple(Program(name, AB, AB, attempts=2) for name in "st"), 0, 1, {},
    ),
    "skew + update, one fault": ((*skew(), UPDATES["a"]), 1, 0, {}),
    "skew + two updates": ((*skew(), *UPDATES.values()), 0, 0, {}),
    "skew + snapshot": ((*skew(), Program("r", AB, kind="snapshot")), 0, 0, {}),
    "ab x2 + snapshot": ((*pair(), Program("r", AB, kind="snapshot")), 0, 0, {}),
    "a read cycle of three keys": (CYCLE, 0, 0, {"keys": ABC}),
    "one op, three attempts": (triple(op_id="o", value="x"), 0, 0, {}),
    "one op twice + update": ((*pair(op_id="o"), UPDATES["a"]), 0, 0, {}),
    "native + intents + update": (
        (Program("s", AB, AB, path="native"), Program("t", AB, ("a",)), UPDATES["b"]), 1, 0, {},
    ),
    "native skew + intents": ((*skew("native"), Program("v", AB, ("a",))), 0, 1, {}),
    **{f"{kind} on a locked key": ((Program("s", AB, ("a",)), plain(kind, "b")), 1, 1, {}) for kind in ("d3", "d3e")},
    **{
        f"{kind} on a written key": ((Program("s", AB, AB, finishes=True), plain(kind, "b")), 1, 1, {"loose": ("b",)})
        for kind in ("d1", "d2", "d3", "d3e")
    },
    **{
        f"{kind} on a key of two": ((*pair(), plain(kind, "b")), 0, 0, {"loose": ("b",)})
        for kind in ("d1", "d2")
    },
    **{f"{kind} beside an update": ((UPDATES["a"], plain(kind, "a")), 2, 0, {}) for kind in ("d1", "d2")},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_state_of_larger_configurations(capsys: pytest.CaptureFixture[str]) -> None:
    """The promises hold there, too; where a plain writer writes between prepare and decision, all but its own key's."""
    check_rows(ROWS, capsys, 1_000_000)
