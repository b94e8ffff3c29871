"""
Records decide: one stored object whose first successful change says what became of a transaction.

``_occ-tx-<id>`` belongs to one attempt: whoever creates it first decides it, C committed or A aborted. ``_occ-op-<hash>``
belongs to a caller's operation id: one attempt at most is committed in it, others are listed as aborted, and ``void``
closes it for good (rule R8). An absent record decides nothing. No record is deleted, nor expires before every key it
names is finished (rule R6).
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from toolkit.core.model import Row
from toolkit.core.value import encode
from toolkit.errors import CorruptValueError

TX_PREFIX: Final = "_occ-tx-"
OP_PREFIX: Final = "_occ-op-"
PROBE_PREFIX: Final = "_occ-probe-"
# Aborted attempts an op record remembers; an attempt that falls out was decided long before the message life ends.
MAX_ABORTED: Final = 256


class _Stored(msgspec.Struct):
    """
    The stored form.
    """

    occ_record: int
    at: float = 0.0
    committed: str = ""
    aborted: tuple[str, ...] = ()
    void: bool = False
    tag: str = ""
    keys: tuple[str, ...] = ()
    result: Any = None
    error: tuple[str, str] | None = None
    done: bool = False


_decoder = msgspec.json.Decoder(_Stored)


def tx_key(tx: str) -> str:
    """
    The key of an attempt's own record.
    """
    return TX_PREFIX + tx


def op_key(op_id: str) -> str:
    """
    The key of the record of an operation id.
    """
    return OP_PREFIX + hashlib.blake2b(op_id.encode(), digest_size=16).hexdigest()


class Record(msgspec.Struct, frozen=True):
    """
    One decision, as read.

    Attributes:
        etag: The store's ETag; empty when the record does not exist yet.
        committed: The attempt that is committed; empty for none.
        aborted: Attempts that can never commit; in an attempt's own record, itself.
        void: No attempt can ever commit.
        tag: Which function an operation id belongs to.
        keys: Every key the committed attempt holds an intent on.
        result: What the committed body returned.
        error: Class name and message of a recorded error.
        done: Every key is finished.
    """

    key: str
    etag: str = ""
    committed: str = ""
    aborted: tuple[str, ...] = ()
    void: bool = False
    tag: str = ""
    keys: tuple[str, ...] = ()
    result: Any = None
    error: tuple[str, str] | None = None
    done: bool = False
    at: float = 0.0

    def decides(self, tx: str) -> bool | None:
        """
        True: committed. False: can never commit. None: undecided.
        """
        if self.committed == tx:
            return True
        if self.committed or self.void or tx in self.aborted:
            return False
        return None


def commit(record: Record, tx: str, keys: tuple[str, ...], *, at: float) -> Record:
    """
    The record with this attempt committed; all others are aborted by that.
    """
    return replace(record, committed=tx, keys=keys, at=at)


def abort(record: Record, tx: str, *, at: float) -> Record:
    """
    The record with this attempt unable to commit.
    """
    return replace(record, aborted=(*record.aborted, tx)[-MAX_ABORTED:], at=at)


def dump(record: Record) -> bytes:
    """
    The stored form.
    """
    out: dict[str, Any] = {"occ_record": 1, "at": round(record.at, 3)}
    if record.committed:
        out |= {"committed": record.committed, "keys": list(record.keys), "result": record.result}
    if record.aborted:
        out["aborted"] = list(record.aborted)
    if record.void:
        out["void"] = True
    if record.tag:
        out["tag"] = record.tag
    if record.error is not None:
        out["error"] = list(record.error)
    if record.done:
        out["done"] = True
    return encode(out, record.key)


def load(key: str, row: Row) -> Record:
    """
    Read a record.

    Raises:
        CorruptValueError: What is stored there is no record of this toolkit.
    """
    if row.missing:
        return Record(key)
    try:
        raw = _decoder.decode(row.data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _foreign(key) from error
    if raw.occ_record != 1:
        raise _foreign(key)
    return Record(
        key,
        etag=row.etag,
        committed=raw.committed,
        aborted=raw.aborted,
        void=raw.void,
        tag=raw.tag,
        keys=raw.keys,
        result=raw.result,
        error=raw.error,
        done=raw.done,
        at=raw.at,
    )


def _foreign(key: str) -> CorruptValueError:
    return CorruptValueError(
        f"key {key!r}: this is no transaction record of this toolkit; it was left as it is", key=key
    )
