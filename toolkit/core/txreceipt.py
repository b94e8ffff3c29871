"""
A receipt for a transaction that is decided by a record, and the questions asked of records later.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

import msgspec
from msgspec.structs import replace

from toolkit.core.model import Outcome
from toolkit.core.records import OP_PREFIX, op_key
from toolkit.core.recovery import decide_abort, read_record, record_write
from toolkit.core.settle import backoff
from toolkit.core.site import Site, rpc_timeout, unavailable
from toolkit.core.stamp import MESSAGE_LIFE
from toolkit.core.steps import Now, Pause, Put, Steps
from toolkit.stores import Call, Verdict

PREFIX: Final = "occ1t."
# The part of a record's life in which its absence proves something, whatever the clocks and deadlines of others.
_SURE: Final = 0.9


class TxReceipt(msgspec.Struct, frozen=True):
    """
    Names one attempt of one transaction; holds no values.
    """

    record: str
    tx: str
    at: float

    def __str__(self) -> str:
        body = msgspec.json.encode([self.record, self.tx, int(self.at)])
        return PREFIX + base64.urlsafe_b64encode(body).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> TxReceipt:
        """
        Read a receipt.

        Raises:
            ValueError: The text is not a receipt of this toolkit.
        """
        body = text.removeprefix(PREFIX)
        try:
            raw = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
            record, tx, at = msgspec.json.decode(raw, type=tuple[str, str, int])
        except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
            raise ValueError(f"{text[:24]!r}… is not a receipt: pass error.receipt unchanged") from error
        return cls(record, tx, float(at))


def resolve_tx(site: Site, receipt: TxReceipt, deadline: float, *, may_write: bool) -> Steps[Outcome]:
    """
    What became of an attempt; one that is still open is closed, so that the answer stays true.
    """
    record = yield from read_record(site, receipt.record, deadline)
    decided = record.decides(receipt.tx)
    if decided is None:
        wall = (yield from Now()).wall
        life = site.op_ttl if receipt.record.startswith(OP_PREFIX) else MESSAGE_LIFE
        # A record that has said "committed" may have expired by now (rule R6).
        if not may_write or wall - receipt.at >= _SURE * life:
            return Outcome.UNKNOWABLE
        decided = yield from decide_abort(site, receipt.record, receipt.tx, deadline)
    return Outcome.COMMITTED if decided else Outcome.NOT_COMMITTED


def outcome_of_op(site: Site, op_id: str, deadline: float) -> Steps[Outcome]:
    """
    Whether the transaction of an operation id is committed, as far as the store still knows.
    """
    record = yield from read_record(site, op_key(op_id), deadline)
    return Outcome.COMMITTED if record.committed else Outcome.NOT_COMMITTED


def void_op(site: Site, op_id: str, deadline: float) -> Steps[Outcome]:
    """
    Close an operation id for good, unless an attempt is committed in it already.
    """
    tries = 0
    while True:
        record = yield from read_record(site, op_key(op_id), deadline)
        if record.committed:
            return Outcome.COMMITTED
        if record.void:
            return Outcome.NOT_COMMITTED
        now = yield from Now()
        write = record_write(site, record, replace(record, void=True, at=now.wall))
        reply = yield from Put(write, rpc_timeout(deadline, now.mono))
        call = Call.CAS if record.etag else Call.CREATE
        if site.judge_reply(call, reply, record.key) is Verdict.COMMITTED and call not in site.profile.lies:
            return Outcome.NOT_COMMITTED
        # Anything else: the record tells.
        tries += 1
        wait = yield from backoff(tries)
        if now.mono + wait >= deadline:
            raise unavailable(site.store, record.key, 0.0, reply)
        yield from Pause(wait if tries > 1 else 0.0)
