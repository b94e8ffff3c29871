"""
The contract of a store through a real daprd, on the stand-ins of the accepted stores: `make test-stores`.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from typing_extensions import override

from tests.contract.caller import Caller, Place, sidecar
from tests.contract.common import ODD, inc
from tests.contract.suite import Contract
from toolkit import CLEAR
from toolkit.core.model import Row
from toolkit.errors import TTLUnsupportedError, ValueTooLargeError
from toolkit.sidecar import Binaries, ServerUnavailable, Sidecar
from toolkit.stores import Profile, find
from toolkit.testing import emulators
from toolkit.testing._server import Server

pytestmark = [pytest.mark.stores, pytest.mark.sidecar]


def _cosmos(server: emulators.CosmosServer) -> dict[str, Any]:
    server.make_collection()
    return server.component("state")


def _dynamo(server: emulators.DynamoServer) -> dict[str, Any]:
    server.make_table()
    return server.component("state")


PLACES: dict[str, tuple[type[Server], Callable[[Any], dict[str, Any]]]] = {
    "blob": (emulators.Azurite, lambda server: server.component("state")),
    "blob-v1": (emulators.Azurite, lambda server: server.component_v1("state")),
    "table": (emulators.Azurite, lambda server: server.component_table("state")),
    "cosmosdb": (emulators.CosmosServer, _cosmos),
    "dynamodb": (emulators.DynamoServer, _dynamo),
    "cockroachdb": (emulators.CockroachStandIn, lambda server: server.component("state")),
    "mongodb": (emulators.MongoServer, lambda server: server.component("state")),
    "yugabytedb": (emulators.CockroachStandIn, lambda server: server.component_yugabytedb("state")),
}


@dataclass(frozen=True)
class EmulatedPlace(Place):
    """
    A place that knows its profile, and reads JSON past the toolkit as the same bytes every time.

    Cosmos DB keeps JSON objects, not bytes: the component writes their members in another order at each read.
    """

    profile: Profile

    @override
    def raw(self, key: str) -> Row:
        row = super().raw(key)
        if "large-integer" not in self.profile.mangles or not row.data.startswith(b"{"):
            return row
        try:
            return Row(json.dumps(json.loads(row.data), sort_keys=True).encode(), row.etag)
        except ValueError:
            return row


class TestEmulated(Contract):
    @pytest.fixture(scope="class", params=PLACES)
    @classmethod
    def place(cls, request: pytest.FixtureRequest, daprd_binaries: Binaries) -> Iterator[EmulatedPlace]:
        kind, component_of = PLACES[request.param]
        with contextlib.ExitStack() as stack:
            try:
                server = stack.enter_context(kind())
            except ServerUnavailable as error:
                if os.environ.get("OCC_REQUIRE_STORES") == "all":
                    pytest.fail(str(error), pytrace=False)
                pytest.skip(str(error))
            component = component_of(server)
            spec = component["spec"]
            running = stack.enter_context(
                Sidecar(components=[component], binaries=daprd_binaries, app_id="live")
            )
            place = stack.enter_context(sidecar("state", running.grpc_endpoint))
            yield EmulatedPlace(place.name, place.port, place.options, find(spec["type"], spec["version"]))

    @override
    def test_a_value_expires(self, store: Caller, rival: Caller, key: str, place: EmulatedPlace) -> None:
        """Where the component knows no TTL, one is refused before anything is sent."""
        if place.profile.has_ttl:
            super().test_a_value_expires(store, rival, key)
            return
        with pytest.raises(TTLUnsupportedError, match=key):
            store.set(key, {"n": 1}, ttl=5)
        assert place.raw(key).missing

    @override
    def test_keep_and_clear(self, store: Caller, place: EmulatedPlace, key: str) -> None:
        """Where the component knows no TTL, keeping and clearing one change nothing."""
        if place.profile.has_ttl:
            super().test_keep_and_clear(store, place, key)
            return
        store.set(key, {"n": 1}, ttl=CLEAR)
        assert store.update(key, inc) == {"n": 2}
        assert "exp" not in json.loads(place.raw(key).data)["_occ"]

    @override
    def test_after_the_stores_own_ttl(self, store: Caller, place: EmulatedPlace, key: str) -> None:
        """As everywhere, where the stand-in expires anything and its ghosts can be removed."""
        if not place.profile.has_ttl or place.profile.type == "state.azure.cosmosdb":
            pytest.skip("nothing expires by itself here")
        super().test_after_the_stores_own_ttl(store, place, key)

    @override
    def test_an_oversized_value(self, store: Caller, place: EmulatedPlace, key: str) -> None:
        """A value over the store's own limit is refused with the numbers; one well under it is taken."""
        limit = place.profile.max_value
        if not limit:
            super().test_an_oversized_value(store, place, key)
            return
        store.set(key, {"n": 1})
        before = place.raw(key)
        with pytest.raises(ValueTooLargeError, match=str(limit)):
            store.set(key, {"pad": "x" * limit})
        assert place.raw(key) == before
        store.set(key, {"pad": "x" * (limit // 2)})
        assert len(store.get(key)["pad"]) == limit // 2

    @override
    def test_the_digest_survives_the_store(
        self, store: Caller, rival: Caller, place: EmulatedPlace, key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All odd values but the numbers whose digits are lost: integers by the component, as its profile says."""
        if "large-integer" in place.profile.mangles:
            rounded = ("tiny", "sum")  # by the stand-in for Cosmos DB
            for name in [k for k, part in ODD.items() if isinstance(part, int) or k in rounded]:
                monkeypatch.delitem(ODD, name)
        super().test_the_digest_survives_the_store(store, rival, place, key)
