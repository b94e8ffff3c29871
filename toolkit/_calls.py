"""
The calls of a state store before they are made: jobs, blind writes, questions; the same in both colours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from toolkit._base import RECORD_PREFIXES, BaseStateStore, inside
from toolkit._checks import check_change, check_op_id, check_ttl, name_of
from toolkit.core.jobs import NO_DEFAULT, Job, Verb, check_value
from toolkit.core.judge import Receipt
from toolkit.core.model import DELETE, TTL, Access, Marker, Outcome, Reply, Write
from toolkit.core.records import op_key
from toolkit.core.resolve import outcome_on_key, resolve_receipt
from toolkit.core.site import Site, refusal, shown
from toolkit.core.snapshot import snapshot
from toolkit.core.stamp import OpId
from toolkit.core.steps import Steps
from toolkit.core.transaction import Options, TxRun
from toolkit.core.txreceipt import PREFIX as TX_RECEIPT
from toolkit.core.txreceipt import TxReceipt, outcome_of_op, resolve_tx, void_op
from toolkit.core.value import encode, plain
from toolkit.errors import InvalidKeyError, StoreUnavailableError, TTLUnsupportedError
from toolkit.stores import Call, Verdict

_READ_WRITE: Final = Access.READ | Access.WRITE


class Calls(BaseStateStore):
    """
    From arguments to work for the core; see ``StateStore``.
    """

    def next_call_id(self) -> str:
        """
        What joins the log lines of one call.
        """
        return f"{self._call_prefix}{next(self._calls) & 0xFFFFFFFF:08x}"

    def begin_transaction(self, options: Options) -> TxRun:
        """
        A run of a transaction on this store.
        """
        site = self._live()
        self._writing("transact")
        self._protected(site, options.label, "transact")
        started = time.monotonic()
        return TxRun(site, options, time.time(), started + options.budget, started)

    def _job(self, verb: Verb, key: str, right: Access, op_id: str | None, label: str) -> Job:
        site = self._live()
        self._writing(verb)
        self._check_key(key, site)
        if key.startswith(RECORD_PREFIXES):
            raise InvalidKeyError(
                f"key {key!r}: this name belongs to the toolkit's transaction records", key=key
            )
        self._require(key, right, verb)
        self._protected(site, key, verb)
        started, policy = time.monotonic(), self.retry
        job = Job(verb, key, started + policy.deadline, policy.attempts)
        job.started, job.label, job.call_id = started, label, self.next_call_id()
        if op_id is not None:
            job.op, job.op_id = OpId.of(check_op_id(op_id), f"{verb}:{label}"), op_id
        return job

    def _update_job(
        self, key: str, change: Callable[[Any], Any], default: Any, ttl: TTL, op_id: str | None
    ) -> Job:
        check_change(change)
        check_ttl(ttl)
        job = self._job("update", key, _READ_WRITE, op_id, name_of(change))
        job.change, job.ttl = _Guarded(change, self, key), ttl
        if default is not NO_DEFAULT:
            job.default = plain(default, key)
        return job

    def may_remove(self, key: str) -> None:
        """
        Whether a change function may answer DELETE.
        """
        self._require(key, Access.REMOVE, "update to DELETE")

    def _value_job(
        self, verb: Verb, key: str, value: Any, ttl: TTL, op_id: str | None, etag: Any = None
    ) -> Job:
        check_ttl(ttl)
        check_value(value, key, "value")
        private = plain(value, key)
        encode(private, key)
        job = self._job(verb, key, Access.WRITE, op_id, verb)
        job.value, job.ttl, job.etag = private, ttl, etag
        return job

    def _delete_job(self, key: str, etag: Any, op_id: str | None) -> Job:
        job = self._job("delete", key, Access.REMOVE, op_id, "delete")
        job.etag = etag
        return job

    def _blind(self, key: str, value: Any, call: str, right: Access, ttl: TTL, op_id: str | None) -> Write:
        """
        The write of a store opened with ``last_write=True``.
        """
        site = self._live()
        if op_id is not None:
            self._protected(site, key, f"{call} with op_id=")
        self._writing(call)
        self._check_key(key, site)
        self._require(key, right, call)
        if value is DELETE:
            return Write(key, None)
        check_ttl(ttl)
        check_value(value, key, "value")
        if not isinstance(ttl, Marker) and not site.profile.has_ttl:
            raise TTLUnsupportedError(f"key {key!r}: this store has no expiry; leave out ttl=")
        seconds = None if isinstance(ttl, Marker) else max(1, round(ttl))
        return Write(key, encode(plain(value, key), key), ttl=seconds)

    def _blind_answer(self, key: str, reply: Reply) -> None:
        if reply.ok:
            return
        site = self._live()
        if site.judge_reply(Call.BLIND, reply, key) is Verdict.INVALID:
            raise refusal(self.name, key, reply)
        raise StoreUnavailableError(
            f"key {key!r}: store {self.name!r} did not confirm the unprotected write ({shown(reply)}); "
            f"it may or may not have taken effect"
        )

    # -- reading and asking ----------------------------------------------------------------------------------------

    def _deadline(self) -> float:
        return time.monotonic() + self.retry.deadline

    def _reading(self, key: str, call: str) -> Site:
        site = self._live()
        self._check_key(key, site)
        self._require(key, Access.READ, call)
        return site

    def _resolving(self, receipt: str) -> Steps[Outcome]:
        site = self._live()
        if receipt.startswith(TX_RECEIPT):
            tx = TxReceipt.parse(receipt)
            return resolve_tx(site, tx, self._deadline(), may_write=Access.WRITE in self._allowed(tx.record))
        parsed = Receipt.parse(receipt)
        self._require(parsed.key, Access.READ, "resolve")
        may_write = Access.WRITE in self._allowed(parsed.key)
        return resolve_receipt(site, parsed, self._deadline(), may_write=may_write)

    def _outcome(self, op_id: str, key: str | None) -> Steps[Outcome]:
        check_op_id(op_id)
        if key is None:
            return outcome_of_op(self._live(), op_id, self._deadline())
        return outcome_on_key(self._reading(key, "outcome"), key, op_id, self._deadline())

    def _voiding(self, op_id: str) -> Steps[Outcome]:
        site = self._live()
        self._writing("void")
        self._require(op_key(check_op_id(op_id)), Access.WRITE, "void")
        self._protected(site, op_id, "void")
        return void_op(site, op_id, self._deadline())

    def _snapshotting(self, keys: Iterable[str]) -> Steps[Mapping[str, Any]]:
        wanted = tuple(dict.fromkeys(keys))
        site = self._live()
        for key in wanted:
            self._reading(key, "snapshot")
        return snapshot(site, wanted, self._deadline())


class _Guarded:
    """
    A change function during whose run every call on a store is refused.
    """

    __slots__ = ("change", "key", "store")

    def __init__(self, change: Callable[[Any], Any], store: Calls, key: str) -> None:
        self.change, self.store, self.key = change, store, key

    def __call__(self, value: Any) -> Any:
        inside.where = "change function"
        try:
            result = self.change(value)
        finally:
            inside.where = None
        if result is DELETE:
            self.store.may_remove(self.key)
        return result
