"""
Watching configuration through a real sidecar: changes, cancelling on threads, asyncio and trio, a restart.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import anyio
import pytest

from tests.facade.sidecars import BACKENDS, run
from toolkit import (
    AsyncDapr,
    Dapr,
    UnknownStoreError,
)
from toolkit.dapr.configuration import ConfigItem


def test_watch(sidecar, config):
    """
    A watch tells of changes of its keys from now on, of a removal as an empty item, and ends when it is closed.
    """
    config.set("a", "0")
    with Dapr(address=sidecar.grpc_endpoint, config_store="config") as dapr:
        with dapr.configs.watch("a") as changes:
            config.set("other", "x")
            config.set("a", "1")
            assert {"a": ConfigItem("1")} == next(changes)
            config.delete("a")
            assert {"a": ConfigItem("")} == next(changes)
            config.set("a", "2")
            assert {"a": ConfigItem("2")} == next(changes)
        assert [] == list(changes)


def test_watching_everything(sidecar, config):
    """
    Without keys a watch tells of all.
    """
    with (
        Dapr(address=sidecar.grpc_endpoint, config_store="config") as dapr,
        dapr.configs.watch() as changes,
    ):
        config.set("any", "1")
        assert {"any": ConfigItem("1")} == next(changes)


@pytest.mark.parametrize("how", ["watch", "dapr"])
def test_a_watch_is_cancelled_from_another_thread(sidecar, config, how):
    """
    Closing the watch, or the Dapr, ends an iteration that waits in another thread, and no thread is left.
    """
    dapr = Dapr(address=sidecar.grpc_endpoint, config_store="config").__enter__()
    changes = dapr.configs.watch("a")
    seen: list[Any] = []
    ended = threading.Event()

    def follow() -> None:
        seen.extend(changes)
        ended.set()

    follower = threading.Thread(target=follow)
    follower.start()
    config.set("a", "1")
    deadline = time.monotonic() + 10
    while not seen and time.monotonic() < deadline:
        # `list.extend` fills the list as the changes come.
        ended.wait(0.01)
    (changes if how == "watch" else dapr).close()
    assert ended.wait(10)
    follower.join(10)
    assert [{"a": ConfigItem("1")}] == seen
    dapr.close()
    _no_watch_threads()


def _no_watch_threads() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("occ-watch"):
            thread.join(10)
    assert [] == [thread.name for thread in threading.enumerate() if thread.name.startswith("occ-watch")]


@BACKENDS
def test_a_watch_on_an_event_loop(sidecar, config, backend):
    """
    Changes come through ``async for``; a cancelled wait ends at once and loses no change; leaving the block ends it.
    """

    async def call() -> None:
        config.set("a", "0")
        async with AsyncDapr(address=sidecar.grpc_endpoint, config_store="config") as dapr:
            assert {"a": ConfigItem("0")} == await dapr.configs.get("a")
            async with dapr.configs.watch("a") as changes:
                with anyio.fail_after(5), anyio.move_on_after(0.2) as scope:
                    await anext(changes)
                assert scope.cancelled_caught
                config.set("a", "1")
                with anyio.fail_after(10):
                    assert {"a": ConfigItem("1")} == await anext(changes)
                    config.set("a", "2")
                    async for change in changes:
                        assert {"a": ConfigItem("2")} == change
                        break
            assert [] == [change async for change in changes]

    run(backend, call)
    _no_watch_threads()


@BACKENDS
def test_a_task_that_watches_is_cancelled(sidecar, config, backend):
    """
    Cancelling a task group with a watching task ends it promptly, and the sidecar can be left.
    """

    async def call() -> None:
        async with AsyncDapr(address=sidecar.grpc_endpoint, config_store="config") as dapr:

            async def watching(*, task_status: Any) -> None:
                async with dapr.configs.watch("a") as changes:
                    task_status.started()
                    async for _ in changes:
                        pass

            with anyio.fail_after(5):
                async with anyio.create_task_group() as group:
                    await group.start(watching)
                    group.cancel_scope.cancel()

    run(backend, call)
    _no_watch_threads()


def test_a_watch_of_an_unknown_store_says_so(sidecar):
    """
    Where entering could not know, the watch does.
    """
    from toolkit.dapr.configuration import Configs

    with Dapr(address=sidecar.grpc_endpoint, config_store="config") as dapr:
        with pytest.raises(UnknownStoreError, match="'nope'"):
            Configs(dapr.configs.link, "nope").watch("a")
        with pytest.raises(UnknownStoreError, match="'nope'"):
            Configs(dapr.configs.link, "nope").get("a")


def test_a_watch_outlives_a_restart(daprd, redis_server, config):
    """
    When the sidecar is killed and comes back, the watch goes on and tells what changed meanwhile.
    """
    sidecar = daprd(components=[redis_server.configuration("config")])
    with (
        Dapr(address=sidecar.grpc_endpoint, config_store="config") as dapr,
        dapr.configs.watch("a") as changes,
    ):
        config.set("a", "1")
        assert {"a": ConfigItem("1")} == next(changes)
        sidecar.kill()
        config.set("a", "2")
        sidecar.restart()
        assert {"a": ConfigItem("2")} == next(changes)
        config.set("a", "3")
        assert {"a": ConfigItem("3")} == next(changes)
