"""
The experiments that wait for a TTL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from toolkit.doctor.bench import Bench, first_write
from toolkit.doctor.wire import Found, Op
from toolkit.stores import IMPOSSIBLE_ETAG

_TTL: Final = 2
_LIMIT: Final = 8.0
_POLL: Final = 0.1
_A, _B = b'{"n":"a"}', b'{"n":"b"}'


def expiry(bench: Bench) -> None:
    """
    Whether a TTL expires a key, survives an update that names none, is cleared by -1, and leaves a ghost behind.

    All keys are written first and share one wait.
    """
    plain, kept, cleared, long = (bench.key("ttl") for _ in range(4))
    reply = bench.wire.send(Op(plain, _A, ttl=_TTL))
    bench.answers["ttl"] = f"{reply.code} {bench.tidy(reply.text)}".strip()
    if not reply.ok:
        bench.facts["ttl"] = "refused"
        return
    bench.wire.send(Op(kept, _A, ttl=_TTL))
    bench.wire.send(Op(kept, _B, etag=bench.read(kept).etag or None))
    bench.wire.send(Op(cleared, _A, ttl=_TTL))
    minus_one = bench.wire.send(Op(cleared, _B, etag=bench.read(cleared).etag or None, ttl=-1))
    bench.wire.send(Op(long, _A, ttl=600))
    bench.facts["ttl-shown"] = bool(bench.read(long).expires)
    expired = _wait_until_gone(bench, plain)
    bench.facts["ttl"] = "expires" if expired else "ignored"
    if not expired:
        return
    kept_gone = _wait_until_gone(bench, kept, patience=1.5)
    bench.facts["ttl-kept-by-update"] = kept_gone
    if minus_one.ok:
        bench.facts["ttl-minus-one"] = "clears" if bench.read(cleared).present else "expires"
    else:
        bench.facts["ttl-minus-one"] = "refused"
    _ghost(bench, plain)


def _wait_until_gone(bench: Bench, key: str, patience: float = _LIMIT) -> bool:
    """
    Read until the key is missing or patience ends; a store may count whole seconds or sweep late.
    """
    end = bench.clock() + patience
    while True:
        found: Found = bench.read(key)
        if not found.present:
            return True
        if bench.clock() >= end:
            return False
        bench.sleep(_POLL)


def _ghost(bench: Bench, key: str) -> None:
    """
    Try to create the expired key.
    """
    impossible = bench.facts.get("create-by-first-write") != "safe"
    reply = bench.wire.send(Op(key, _B, etag=IMPOSSIBLE_ETAG) if impossible else first_write(key, _B))
    created = bench.read(key).data == _B
    bench.answers["create-over-expired"] = (
        "created" if created else f"{reply.code} {bench.tidy(reply.text)}".strip()
    )
    bench.facts["ghost"] = not created


EXPIRY: Final[Mapping[str, Callable[[Bench], None]]] = MappingProxyType({"expiry": expiry})
