"""
The public API of `workflows.actors` as a type checker sees it; checked by mypy and pyright, never run.
"""

from __future__ import annotations

from random import Random
from typing import Any, assert_type

from toolkit import AsyncStateStore
from toolkit.testing import MemoryStore
from workflows.actors import (
    Call,
    FencedActor,
    MockHost,
    Played,
    PlayedTurn,
    TurnHazards,
    explore_turns,
    fenced_mock,
    play_turns,
)


class Article(FencedActor): ...


def check(played: Played) -> None:
    assert_type(played.answered("Take"), list[PlayedTurn])
    assert_type(played.state, dict[str, Any] | None)


def calls(random: Random) -> list[Call]:
    return [("Take", random.randint(1, 3)), "Stock"]


def played_turns() -> None:
    assert_type(play_turns(Article, "bolt", [("Take", 1), "Stock"], port=MemoryStore(), seed=1), Played)
    explore_turns(Article, "bolt", calls, check, port=MemoryStore, hazards=TurnHazards(crash=0))


async def mocked(store: AsyncStateStore) -> None:
    host = fenced_mock(Article, "bolt", store=store)
    assert_type(host, MockHost[Article])
    assert_type(host.actor, Article | None)
