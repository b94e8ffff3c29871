"""
Fixtures of tests that look at single keys through ``occ``.
"""

from __future__ import annotations

import uuid

import pytest

from toolkit import StateStore


@pytest.fixture
def at(live_named, monkeypatch):
    """
    The shared sidecar, found through the environment as a user's shell has it.
    """
    live = live_named("sqlite")
    monkeypatch.setenv("DAPR_GRPC_ENDPOINT", live.address)
    monkeypatch.delenv("DAPR_API_TOKEN", raising=False)
    return live


@pytest.fixture
def key():
    return f"k-{uuid.uuid4().hex[:10]}"


@pytest.fixture
def store(at):
    with StateStore(at.name) as store:
        yield store
