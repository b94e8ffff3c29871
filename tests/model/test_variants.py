"""
Unsafe variants of the protocol that need plain writers, removed keys or a lost answer: the model sees each of them fail.

The numbers are those of the table of unsafe variants. The other variants of this path are in ``test_model`` and, for
what concerns one key only (18, 19, 21, 22), in ``tests/core/test_planted``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec.structs
import pytest

from tests.model.judge import explore
from tests.model.programs import Program
from tests.model.test_larger import UPDATES, plain
from tests.model.test_model import AB, pair
from toolkit.core import compose, intents, recovery
from toolkit.core import seen as seeing
from toolkit.core.model import ABSENT, Row, Write
from toolkit.core.seen import Seen, see
from toolkit.core.site import unavailable


def really_delete(patch: pytest.MonkeyPatch) -> None:
    """16, 19: a removed key leaves no tombstone, or one that is gone before the last late message."""
    honest = compose.conditional

    def deleting(profile: Any, seen: Seen, data: bytes, ttl: float | None) -> Write:
        write = honest(profile, seen, data, ttl)
        gone = see(seen.key, Row(data, "?")).value is ABSENT and not seen.row.missing
        return msgspec.structs.replace(write, data=None, ttl=None) if gone else write

    patch.setattr(compose, "conditional", deleting)


def old_incarnation(patch: pytest.MonkeyPatch) -> None:
    """23: an intent over a value without a stamp does not begin a new incarnation."""
    honest = intents.successor

    def successor(seen: Seen, *args: Any, **options: Any) -> Any:
        stamp = honest(seen, *args, **options)
        return msgspec.structs.replace(stamp, incarnation="1") if seen.stamp is None else stamp

    patch.setattr(intents, "successor", successor)


def ignore_the_digest(patch: pytest.MonkeyPatch) -> None:
    """24: a stamp counts whatever stands beside it."""
    honest = seeing.parse

    def parse(raw: Any, key: str) -> Any:
        return msgspec.structs.replace(honest(raw, key), digest="")

    patch.setattr(seeing, "parse", parse)
    patch.setattr(seeing, "_digest", lambda *_: "")


def only_wait(patch: pytest.MonkeyPatch) -> None:
    """27: whoever meets an undecided intent waits for its owner, for ever."""

    def wait(site: Any, key: str, *_: Any) -> Any:
        raise unavailable(site.store, key, 0.0, None)
        yield

    patch.setattr(recovery, "decide_abort", wait)


REMOVE: Final = Program("x", (), ("a",), "remove")

VARIANTS: Final[dict[str, tuple[Callable[[pytest.MonkeyPatch], None], tuple[Program, ...], dict[str, Any]]]] = {
    "16, one key": (really_delete, (UPDATES["a"], REMOVE), {"faults": 1, "crashes": 0, "absent": True}),
    "16, a transaction": (
        really_delete, (Program("s", (), AB), REMOVE), {"faults": 1, "crashes": 0, "absent": True},
    ),
    "23": (
        old_incarnation, (UPDATES["a"], plain("d1", "a"), Program("s", AB, AB)),
        {"faults": 1, "crashes": 1, "loose": ("a",)},
    ),
    "24, d2 before the prepare": (
        ignore_the_digest, (Program("s", AB, AB), plain("d2", "b")),
        {"faults": 0, "crashes": 0, "stamped": True, "loose": ("b",)},
    ),
    "24, d3e after finalise": (
        ignore_the_digest, (Program("s", AB, AB, finishes=True), plain("d3e", "b")),
        {"faults": 0, "crashes": 0, "stamped": True, "loose": ("b",)},
    ),
    "27": (only_wait, pair(), {"faults": 0, "crashes": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_an_unsafe_variant_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same programs keep every promise by the rules, and break one without this rule."""
    variant, programs, bounds = VARIANTS[name]
    removes = any(program.kind == "remove" for program in programs)
    assert explore(programs, **bounds).problems == ()
    variant(monkeypatch)
    assert explore(programs, **bounds, deleted=removes).problems != ()
