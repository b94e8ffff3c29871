"""
A pytest plugin for tests of workflows: ``pytest_plugins = ["toolkit.testing.pytest_workflows"]`` in ``conftest.py``.

Fixtures: ``wf_sidecar``, a ``WorkflowSidecar`` of the test's own; ``wf_faults``, its faults; ``wf_store``, an open
``StateStore`` over its state; ``wf_serve``, which starts kits and runtimes and ends them with the test. A failed test reports
the seed and the faults that happened; ``--wf-seed N`` runs with another one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pytest

if TYPE_CHECKING:
    from toolkit.store import StateStore
    from toolkit.testing.taskhub.faults import WorkflowFaults
    from toolkit.testing.taskhub.sidecar import WorkflowSidecar

S = TypeVar("S")

_SIDECAR: Final = pytest.StashKey["WorkflowSidecar"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """
    The seed of all chance in ``wf_sidecar``.
    """
    parser.addoption("--wf-seed", type=int, default=0, help="seed of the faults and schedules of wf_sidecar")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """
    Say in the report of a failure how to have it again.
    """
    report = yield
    sidecar = item.stash.get(_SIDECAR, None)
    if report.failed and sidecar is not None:
        told = f"again with: pytest {item.nodeid!r} --wf-seed {sidecar.seed}\nfaults: {dict(sidecar.faults.counts)}"
        report.sections.append(("workflow sidecar", told))
    return report


@pytest.fixture
def wf_sidecar(request: pytest.FixtureRequest) -> Iterator[WorkflowSidecar]:
    """
    An engine of the test's own, on virtual time.
    """
    from toolkit.testing.taskhub.sidecar import WorkflowSidecar

    seed: Any = request.config.getoption("--wf-seed", default=0)
    with WorkflowSidecar(seed=seed) as sidecar:
        request.node.stash[_SIDECAR] = sidecar
        yield sidecar


@pytest.fixture
def wf_faults(wf_sidecar: WorkflowSidecar) -> WorkflowFaults:
    """
    What befalls its deliveries.
    """
    return wf_sidecar.faults


@pytest.fixture
def wf_store(wf_sidecar: WorkflowSidecar) -> Iterator[StateStore]:
    """
    A store over its state, open.
    """
    from toolkit.store import StateStore

    with StateStore("test", port=wf_sidecar.state) as store:
        yield store


@pytest.fixture
def wf_serve(wf_sidecar: WorkflowSidecar) -> Iterator[Callable[[S], S]]:  # noqa: ARG001  outlived by it
    """
    ``wf_serve(kit)`` starts a ``WorkflowKit`` or a ``WorkflowRuntime``, which ends before the sidecar does.
    """
    with contextlib.ExitStack() as stack:

        def serve(worker: S) -> S:
            given: Any = worker
            if hasattr(given, "__exit__"):
                stack.enter_context(given)
            else:
                given.start()
                stack.callback(given.shutdown)
            return worker

        yield serve
