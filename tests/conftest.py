"""
Fixtures around a real sidecar and real stores.

``OCC_REQUIRE_STORES=all`` (or a list like ``redis,mysql``) makes a missing server an error instead of a skip.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.table import cells_of, table_of
from toolkit.sidecar import Binaries, ServerUnavailable, Sidecar, SidecarNotFoundError, find
from toolkit.testing.live import ALL, PROTECTED, LiveStores

REQUIRED = frozenset(filter(None, os.environ.get("OCC_REQUIRE_STORES", "").replace(" ", "").split(",")))
SIDECAR_FIXTURES = frozenset({"daprd_binaries", "daprd", "live", "live_store", "workflow_sidecar"})


@dataclass(frozen=True, slots=True)
class LiveStore:
    """
    One store of the shared sidecar: the name of its component, and where the sidecar is.
    """

    name: str
    sidecar: Sidecar

    @property
    def address(self) -> str:
        return self.sidecar.grpc_endpoint


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--history",
        metavar="FILE",
        help="Write the list-append histories of live transactions to FILE, store by store.",
    )


def pytest_configure(config: pytest.Config) -> None:
    kept = config.getoption("--history")
    if kept and not hasattr(config, "workerinput"):
        # Each store appends to it; the workers of a parallel run come after this.
        Path(kept).unlink(missing_ok=True)


def missing(store: str, reason: str) -> None:
    """
    Skip the test, or fail it where this store is required.
    """
    if "all" in REQUIRED or store in REQUIRED:
        pytest.fail(f"{store} is required (OCC_REQUIRE_STORES) and not here: {reason}", pytrace=False)
    pytest.skip(reason)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    Mark what needs a real daprd by the fixtures it uses, so that no test can forget the marker.
    """
    for item in items:
        if SIDECAR_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.sidecar)


@pytest.fixture(scope="session")
def daprd_binaries() -> Binaries:
    """
    The daprd that is found here.
    """
    try:
        return find()
    except SidecarNotFoundError as error:
        missing("daprd", str(error))
        raise


@pytest.fixture
def daprd(daprd_binaries: Binaries) -> Iterator[Callable[..., Sidecar]]:
    """
    Starts sidecars of the test's own: ``daprd(components=[...], app_id=...)``; they end with the test.
    """
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(Sidecar(binaries=daprd_binaries, **options))


@pytest.fixture(scope="session")
def live(daprd_binaries: Binaries) -> Iterator[LiveStores]:
    """
    One sidecar in front of every store that runs here, shared by the whole session: use keys of your own.
    """
    with LiveStores(ALL, binaries=daprd_binaries, app_id="live") as stores:
        yield stores


@pytest.fixture(params=PROTECTED)
def live_store(request: pytest.FixtureRequest, live: LiveStores) -> LiveStore:
    """
    Each protected store in turn, skipped with its reason where its server is not installed.
    """
    return require(live, str(request.param))


@pytest.fixture
def live_named(live: LiveStores) -> Callable[[str], LiveStore]:
    """
    A store of the shared sidecar by its name, for tests that want one or two: ``live_named("redis")``.
    """
    return lambda name: require(live, name)


@pytest.fixture(scope="session")
def workflow_sidecar(daprd_binaries: Binaries) -> Iterator[Sidecar]:
    """
    A sidecar with placement and scheduler, on embedded SQLite, shared by the whole session.
    """
    with Sidecar(binaries=daprd_binaries, workflows=True, app_id="workflows") as sidecar:
        yield sidecar


def require(live: LiveStores, name: str) -> LiveStore:
    """
    The store of this name, or a skip with the reason why it is not here.
    """
    try:
        return LiveStore(live.require(name), live.sidecar)
    except ServerUnavailable as error:
        missing(name, str(error))
        raise


@pytest.fixture
def server_named() -> Iterator[Callable[[str], Any]]:
    """
    Starts a server of the test's own (``redis``, ``postgresql``, ``mariadb``, ``etcd``), for tests of faults.
    """
    from toolkit.testing.servers import SERVERS

    with contextlib.ExitStack() as stack:

        def start(name: str) -> Any:
            try:
                return stack.enter_context(SERVERS[name]())
            except ServerUnavailable as error:
                missing(name, str(error))
                raise

        yield start


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """
    Says something at the end of the run, where it is seen however many workers the tests run on.
    """
    return lambda text: record_property("tell", text)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """
    Print what tests had to tell, and the table of faults when one of its tests ran.
    """
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, ())]
    told = [value for report in reports for name, value in report.user_properties if name == "tell"]
    cells = sum((cells_of(report.user_properties) for report in reports), Counter())
    if told or cells:
        terminalreporter.section("told by tests")
    for text in told:
        terminalreporter.write_line(text)
    for line in table_of(cells) if cells else ():
        terminalreporter.write_line(line)
