"""
The same addition without Dapr: what one would write against Redis or PostgreSQL itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from bench.hot_sides import One, window

SCRIPT = "return redis.call('HINCRBY', KEYS[1], 'n', 1)"


async def redis_rates(server: Any, tasks: int, rounds: int, seconds: float) -> dict[str, list[float]]:
    from redis.asyncio import Redis
    from redis.exceptions import WatchError

    async with Redis(host=server.host, port=server.port, password=server.password) as client:
        script = client.register_script(SCRIPT)

        async def watched(key: str, end: float) -> bool:
            while time.perf_counter() < end:
                async with client.pipeline() as pipe:
                    await pipe.watch(key)
                    n = int(await pipe.get(key) or 0)
                    pipe.multi()
                    pipe.set(key, n + 1)
                    try:
                        await pipe.execute()
                    except WatchError:
                        continue
                    return True
            return False

        async def scripted(_key: str, _end: float) -> bool:
            await script(keys=["hot-script"])
            return True

        return await _rates({"Redis WATCH/MULTI": watched, "Redis Lua": scripted}, tasks, rounds, seconds)


async def postgres_rates(server: Any, tasks: int, rounds: int, seconds: float) -> dict[str, list[float]]:
    import psycopg

    async with AsyncExitStack() as stack:
        idle: asyncio.Queue[Any] = asyncio.Queue()
        for _ in range(tasks):
            connection = await psycopg.AsyncConnection.connect(server.dsn, autocommit=True)
            idle.put_nowait(await stack.enter_async_context(connection))
        first = await idle.get()
        await first.execute("CREATE TABLE IF NOT EXISTS hot (key text PRIMARY KEY, n int, version int)")
        await first.execute("INSERT INTO hot VALUES ('hot', 0, 0) ON CONFLICT DO NOTHING")
        idle.put_nowait(first)

        async def lent(work: Callable[[Any], Awaitable[bool]]) -> bool:
            connection = await idle.get()
            try:
                return await work(connection)
            finally:
                idle.put_nowait(connection)

        async def locked(_key: str, _end: float) -> bool:
            return await lent(_locked)

        async def versioned(_key: str, end: float) -> bool:
            return await lent(lambda connection: _versioned(connection, end))

        sides = {"PostgreSQL FOR UPDATE": locked, "PostgreSQL version column": versioned}
        return await _rates(sides, tasks, rounds, seconds)


async def _locked(connection: Any) -> bool:
    async with connection.transaction():
        row = await connection.execute("SELECT n FROM hot WHERE key = 'hot' FOR UPDATE")
        (n,) = await row.fetchone()
        await connection.execute("UPDATE hot SET n = %s WHERE key = 'hot'", (n + 1,))
    return True


async def _versioned(connection: Any, end: float) -> bool:
    while time.perf_counter() < end:
        row = await connection.execute("SELECT n, version FROM hot WHERE key = 'hot'")
        n, version = await row.fetchone()
        done = await connection.execute(
            "UPDATE hot SET n = %s, version = version + 1 WHERE key = 'hot' AND version = %s",
            (n + 1, version),
        )
        if done.rowcount == 1:
            return True
    return False


async def _rates(sides: dict[str, One], tasks: int, rounds: int, seconds: float) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, one in sides.items():
            rates[name].append((await window(one, lambda _: "hot-peer", tasks, seconds)).rate)
    return rates
