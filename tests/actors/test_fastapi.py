"""
A safe actor behind the SDK's FastAPI routes.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import httpx
import pytest
from dapr.actor.runtime.runtime import ActorRuntime
from dapr.ext.fastapi import DaprActor
from fastapi import FastAPI

from workflows.actors import MemoryActorClient

sys.path.insert(0, str(Path(__file__).parent))
from live_actors import LivePlainWallet, LiveWallet


@pytest.fixture
def registered(monkeypatch):
    """
    The SDK's registry of types, as it was before.
    """
    monkeypatch.setattr(ActorRuntime, "_actor_managers", {})
    monkeypatch.setattr(ActorRuntime, "_actor_managers_lock", asyncio.Lock())


@pytest.mark.parametrize(("kind", "expected"), [(LiveWallet, b"11"), (LivePlainWallet, b"111")])
@pytest.mark.parametrize("headers", [{}, {"Dapr-Reentrancy-Id": "chain"}], ids=["plain", "reentrant"])
def test_a_turn_that_raises_leaves_nothing(registered, kind, expected, headers):
    """
    10, a refused +100, then +1; the SDK's own actor is the control, and is safe where it is reentrant.
    """

    async def main():
        await ActorRuntime.register_actor(kind, actor_client=MemoryActorClient())
        app = FastAPI()
        DaprActor(app)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as caller:
            path = f"/actors/{kind.__name__}/a/method"
            assert b"10" == (await caller.put(f"{path}/Add", content=b"10", headers=headers)).content
            refused = await caller.put(f"{path}/AddAndRaise", content=b"100", headers=headers)
            assert (500, "ValueError('refused')") == (refused.status_code, refused.json()["message"])
            return (await caller.put(f"{path}/Add", content=b"1", headers=headers)).content

    assert (b"11" if headers else expected) == asyncio.run(main())
