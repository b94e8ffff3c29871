"""
Which way a store's transactions go, and the proof of its own before it is trusted.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from toolkit.core.model import Reply, Row, Write
from toolkit.core.records import PROBE_PREFIX
from toolkit.core.site import Site, shown
from toolkit.core.steps import Chance, GetAll, Multi, Now, PutAll, Steps
from toolkit.errors import TransactionsUnsupportedError
from toolkit.stores import Call, Verdict, cas_write, create_write

MultiPath: TypeAlias = Literal["native", "intents"]

# Garbage collection of scratch keys where the store has a TTL; the keys are random and never used again.
_SCRATCH_LIFE: Final = 60
_TRIES: Final = 3


class Finding(msgspec.Struct, frozen=True):
    """
    What a probe found: an empty reason means that the store keeps its word.

    Attributes:
        conclusive: The store's behaviour was seen; else an answer was lost, which proves nothing.
        echo: A conflict on keys that nobody else knows: most likely the answer to a second copy of a request that was
            taken, which proves nothing either, unless it comes every time.
    """

    reason: str = ""
    conclusive: bool = True
    echo: bool = False


def choose_path(site: Site) -> Steps[MultiPath]:
    """
    How several keys are committed on this store; the first call proves the store's own transactions on scratch keys.

    Raises:
        TransactionsUnsupportedError: Neither way is safe here; says why.
    """
    if site.path is not None:
        return site.path
    _check(site)
    finding = Finding("the store has no truthful transactions of its own")
    echoes = 0
    if site.profile.native == "truthful":
        for _ in range(_TRIES):
            finding = yield from probe_native(site)
            if finding.conclusive:
                break
            echoes += finding.echo
    if not finding.reason:
        path: MultiPath = "native"
    elif site.profile.safe_create:
        path = "intents"
    else:
        raise _unsupported(site, f"{finding.reason}, and keys cannot be created safely, which intents need")
    if finding.conclusive or echoes == _TRIES:
        site.path = path
    # Both ways respect each other: after lost answers this call takes the one that needs no proof.
    return path


def _check(site: Site) -> None:
    profile = site.profile
    if profile.evidence == "source" and not site.accept_unverified:
        raise _unsupported(
            site,
            "its profile is known from source code only; try `occ doctor`, then open it with accept_unverified=True",
        )
    if not profile.linearizable:
        raise _unsupported(
            site, "its reads are not linearizable, so no transaction over several keys can be serializable"
        )


def _unsupported(site: Site, why: str) -> TransactionsUnsupportedError:
    return TransactionsUnsupportedError(
        f"store {site.store!r} ({site.profile.type} {site.profile.version}) has no transactions over several keys: {why}"
    )


def probe_native(site: Site) -> Steps[Finding]:
    """
    Try the store's own transactions on two scratch keys.

    A component that encrypts state returns other bytes than a transaction wrote; a store that applies part of a refused
    transaction shows the part.
    """
    chance = yield from Chance()
    now = yield from Now()
    name = f"{PROBE_PREFIX}{int(now.wall * 1e6):x}{int(chance * 2**48):012x}"
    keys = (f"{name}-a", f"{name}-b", f"{name}-c")
    ttl = _SCRATCH_LIFE if site.profile.has_ttl else None
    body = b'{"probe":"a transaction of two keys"}'
    reply = yield from Multi(tuple([_scratch(site, key, body, ttl) for key in keys[:2]]))
    finding = _taken(site, reply, "two new keys")
    if not finding.reason:
        rows = yield from GetAll(keys[:2])
        finding = _as_written(rows, body)
        if not finding.reason:
            finding = yield from _refused_whole(site, keys, rows, ttl)
    if site.profile.send_ttl == "never" or not site.profile.has_ttl:
        yield from PutAll(tuple([Write(key, None) for key in keys]))
    return finding


def _scratch(site: Site, key: str, body: bytes, ttl: int | None) -> Write:
    """
    The first write of a scratch key; its random name is nobody else's, so a store without a safe create will do.
    """
    if site.profile.safe_create:
        return create_write(site.profile, key, body, ttl)
    return Write(key, body, ttl=None if site.profile.send_ttl == "never" else ttl)


def _taken(site: Site, reply: Reply, what: str) -> Finding:
    verdict = site.judge_reply(Call.MULTI, reply)
    if verdict is Verdict.COMMITTED:
        return Finding()
    return Finding(
        f"a transaction of {what} was answered {shown(reply)}",
        conclusive=verdict is Verdict.INVALID,
        echo=verdict in (Verdict.CONFLICT, Verdict.SUSPECTED),
    )


def _unread(reply: Reply) -> Finding:
    return Finding(f"a scratch key could not be read ({shown(reply)})", conclusive=False)


def _as_written(rows: tuple[Row | Reply, ...], body: bytes) -> Finding:
    for row in rows:
        if isinstance(row, Reply):
            return _unread(row)
        if _spaceless(row.data) != _spaceless(body):
            return Finding(
                "a value written by a transaction reads back as other bytes, as with an encrypted component"
            )
    return Finding()


def _spaceless(data: bytes) -> bytes:
    """
    A store may rewrite JSON text (PostgreSQL's jsonb adds blanks); the value here has none that count.
    """
    return data.replace(b" ", b"")


def _refused_whole(
    site: Site, keys: tuple[str, ...], rows: tuple[Row | Reply, ...], ttl: int | None
) -> Steps[Finding]:
    """
    A transaction with one stale ETag must apply nothing.
    """
    first, second = rows
    assert isinstance(first, Row)
    assert isinstance(second, Row)
    profile = site.profile
    moved = yield from Multi((cas_write(profile, keys[0], b'{"probe":2}', first.etag, ttl),))
    finding = _taken(site, moved, "one key with its ETag")
    if finding.reason:
        return finding
    stale = cas_write(profile, keys[0], b'{"probe":3}', first.etag, ttl)
    good = cas_write(profile, keys[1], b'{"probe":3}', second.etag, ttl)
    refused = yield from Multi((good, stale, _scratch(site, keys[2], b'{"probe":3}', ttl)))
    if site.judge_reply(Call.MULTI, refused) is Verdict.COMMITTED:
        return Finding("a transaction with a stale ETag was acknowledged")
    after = yield from GetAll(keys[1:])
    for row, wanted in zip(after, (second.etag, ""), strict=True):
        if isinstance(row, Reply):
            return _unread(row)
        if row.etag != wanted:
            return Finding("a refused transaction was applied in part")
    return Finding()
