"""
Looking at single keys and mending them: what `occ inspect`, `strip`, `repair` and `sweep` do.

Every change is planned from one read and written on the condition that the row is still that one. An answer that is
not a clean yes is settled by reading and planning again.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

from toolkit._checks import check_key
from toolkit.core.compose import Content, body, garbage_ttl, successor
from toolkit.core.intents import intent_of
from toolkit.core.model import ABSENT, MISSING_ROW, Reply, Row, Write
from toolkit.core.records import OP_PREFIX, TX_PREFIX, load
from toolkit.core.seen import Seen, see
from toolkit.core.site import shown
from toolkit.core.stamp import FORMAT, WriteId
from toolkit.core.value import RESERVED, decode, encode
from toolkit.errors import CorruptValueError, StoreUnavailableError
from toolkit.stores import Call, Profile, Verdict, cas_write, classify, find, says_missing

_CONNECT: Final = 3.0
_CALL: Final = 5.0
_ROUNDS: Final = 5


@dataclass(frozen=True, slots=True)
class Shelf:
    """
    One store behind a sidecar, row by row.
    """

    store: str
    port: Any
    profile: Profile
    address: str | None = None

    def read(self, key: str) -> Row:
        """
        The row as it is stored.

        Raises:
            InvalidKeyError: No key is called that.
            StoreUnavailableError: The store did not answer.
        """
        check_key(key)
        answer: Row | Reply = self.port.get(key, strong=True, timeout=_CALL)
        if isinstance(answer, Reply) and says_missing(self.profile, answer.code, answer.text):
            return MISSING_ROW
        if isinstance(answer, Reply):
            raise StoreUnavailableError(f"key {key!r}: store {self.store!r} did not answer ({shown(answer)})")
        return answer


@contextmanager
def open_shelf(store: str, address: str | None) -> Generator[Shelf]:
    """
    Connect to a store; the token comes from ``DAPR_API_TOKEN``.

    Raises:
        ValueError: The address is none.
        SidecarUnavailableError: Nothing answered within a few seconds.
        UnknownStoreError: The sidecar has no such store.
    """
    from toolkit.dapr.address import Token, address_of
    from toolkit.dapr.port import GrpcPort

    port = GrpcPort(store, address_of(address), Token())
    component = port.connect(_CONNECT)
    try:
        yield Shelf(store, port, find(component.type, component.version), address)
    finally:
        port.close()


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What is to be done about one key: a write, or nothing and why.

    Attributes:
        says: What happens, or why nothing does; follows the key's name.
        refused: Nothing is done although it was asked for.
        settles: A transaction is to be decided and finished.
    """

    says: str
    write: Write | None = None
    refused: bool = False
    settles: bool = False


Planner = Callable[[str, Row, Profile], Plan]


def carry_out(shelf: Shelf, key: str, planner: Planner) -> Plan:
    """
    Plan and write until the key is as it should be; the plan that was carried out, or a refusal.
    """
    done: Plan | None = None
    for _ in range(_ROUNDS):
        plan = planner(key, shelf.read(key), shelf.profile)
        if plan.write is None:
            # After a write whose answer was unclear, nothing left to do means that it took effect.
            return plan if done is None or plan.refused else done
        done = plan
        reply: Reply = shelf.port.put(plan.write, timeout=_CALL)
        call = Call.DELETE if plan.write.data is None else Call.CAS
        if classify(shelf.profile, call, reply.code, reply.text, (key,)) is Verdict.COMMITTED:
            return plan
    return Plan(f"somebody else kept writing it; tried {_ROUNDS} times, gave up", refused=True)


def understand(key: str, row: Row) -> tuple[Seen | None, dict[str, Any] | None, str]:
    """
    A row as the toolkit reads it; where it cannot, the JSON object it is (None for other bytes), and why not.
    """
    try:
        return see(key, row), None, ""
    except CorruptValueError as error:
        why = str(error)
    try:
        broken: dict[str, Any] = decode(row.data, key)
    except CorruptValueError:
        return None, None, why
    return None, broken, why


def is_record(key: str) -> bool:
    """
    Whether a key belongs to the transactions of the toolkit.
    """
    return key.startswith((TX_PREFIX, OP_PREFIX))


def is_unfinished(row: Row, key: str) -> bool:
    """
    Whether repair has something to do about a row.
    """
    seen = None if row.missing else understand(key, row)[0]
    return not row.missing and (seen is None or intent_of(seen) is not None)


def _delete(key: str, row: Row, profile: Profile, says: str) -> Plan:
    return Plan(says, cas_write(profile, key, None, row.etag))


def _not_ours(key: str, row: Row) -> Plan | None:
    if is_record(key):
        return Plan("is a record of the toolkit's transactions; it was left as it is", refused=True)
    return Plan("is not there", refused=True) if row.missing else None


# -- strip -------------------------------------------------------------------------------------------------------------


def plan_strip(key: str, row: Row, profile: Profile) -> Plan:
    """
    Leave the plain value behind, or nothing where the toolkit sees nothing.
    """
    if (no := _not_ours(key, row)) is not None:
        return no
    seen, raw, why = understand(key, row)
    if seen is None:
        if raw is None:
            return Plan(f"was left as it is: {why}", refused=True)
        members = {name: value for name, value in raw.items() if name != RESERVED}
        return Plan("loses its corrupt stamp", cas_write(profile, key, encode(members, key), row.etag))
    stamp, now = seen.stamp, time.time()
    if stamp is None:
        return Plan("has no stamp: nothing to strip")
    if stamp.format != FORMAT:
        return Plan(f"has a stamp of format {stamp.format}: use the release that wrote it", refused=True)
    if intent_of(seen) is not None:
        return Plan(
            "is in the middle of a transaction: read it with the toolkit, then try again", refused=True
        )
    if not seen.exists(now):
        return _delete(key, row, profile, "is deleted or expired: its remains are removed")
    data, ttl = encode(seen.value, key), None
    says = "becomes a plain value"
    if stamp.expires is not None:
        ttl = max(stamp.expires - now, 1.0)
        sent = profile.has_ttl and profile.send_ttl != "never"
        says += (
            f", the store expires it in {ttl:.0f} s" if sent else "; its expiry is lost, this store has none"
        )
    return Plan(says, cas_write(profile, key, data, row.etag, ttl))


# -- repair ------------------------------------------------------------------------------------------------------------


def _remains(stamp: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", stamp) if type(stamp) is dict else {}


def plan_repair(key: str, row: Row, profile: Profile) -> Plan:
    """
    Give a value whose stamp is corrupt a fresh one; have a transaction finished.
    """
    if (no := _not_ours(key, row)) is not None:
        return no
    seen, raw, why = understand(key, row)
    if seen is not None and (intent := intent_of(seen)) is not None:
        return Plan(f"is in the middle of transaction {intent.tx}: it is decided and finished", settles=True)
    if seen is not None:
        return Plan("has no corrupt stamp: nothing to repair")
    if raw is None:
        return Plan(f"cannot be repaired: {why}", refused=True)
    members = {name: value for name, value in raw.items() if name != RESERVED}
    torn = _remains(raw[RESERVED])
    wrapped = bool(torn.get("e")) and set(members) == {"value"}
    gone = bool(torn.get("gone")) and not members
    bare = Seen(key, row, members, members, None, valid=False, plain=False)
    now = time.time()
    content = Content(members, gone=gone, envelope=wrapped)
    stamp = successor(bare, content, WriteId(secrets.token_hex(8), 1), now, kind="fence")
    ttl = garbage_ttl(gone, None, now, 0.0) if profile.has_ttl else None
    what = "tombstone" if gone else "value"
    return Plan(
        f"gets a fresh stamp, as a {what}; its operation ids and expiry are lost",
        cas_write(profile, key, body(key, members, stamp), row.etag, ttl),
    )


# -- sweep -------------------------------------------------------------------------------------------------------------


def plan_sweep(key: str, row: Row, profile: Profile, *, life: float) -> Plan:
    """
    Remove a tombstone, an expired value or a finished record that is older than *life* seconds.

    A stamp does not say whether a transaction wrote it, so the longest life is the caller's to know.
    """
    if row.missing:
        return Plan("is not there: nothing to sweep")
    now = time.time()
    if is_record(key):
        record = load(key, row)
        if not record.done:
            return Plan("is a record whose transaction is not finished on every key: kept")
        return _sweep_dead(key, row, profile, "record", record.at + life - now)
    seen, _, why = understand(key, row)
    if seen is None:
        return Plan(f"was left as it is: {why}", refused=True)
    stamp = seen.stamp
    if stamp is None or not seen.valid or seen.exists(now):
        return Plan("holds a value: nothing to sweep")
    if intent_of(seen) is not None:
        return Plan("is in the middle of a transaction: nothing to sweep")
    if seen.value is ABSENT:
        died = max((slot.at for slot in stamp.slots), default=now)
        return _sweep_dead(key, row, profile, "tombstone", died + life - now)
    assert stamp.expires is not None
    return _sweep_dead(key, row, profile, "expired value", stamp.expires + life - now)


def _sweep_dead(key: str, row: Row, profile: Profile, what: str, left: float) -> Plan:
    if left > 0:
        return Plan(f"holds its {what} for another {left:.0f} s: kept")
    return _delete(key, row, profile, f"{what} removed")
