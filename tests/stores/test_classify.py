"""
The classifier: the measured wordings of every store, and what no wording may ever prove.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.stores import Call, Verdict, cause_of, classify, conflict_texts, find, profiles, unknown
from toolkit.stores.profile import Profile

COMMITTED, CONFLICT, SUSPECTED = Verdict.COMMITTED, Verdict.CONFLICT, Verdict.SUSPECTED
UNAVAILABLE, INVALID, UNKNOWN = Verdict.UNAVAILABLE, Verdict.INVALID, Verdict.UNKNOWN

SAVE = "failed saving state in state store store: "
DELETE = "failed deleting state with key k: "
MULTI = "error while executing state transaction: "
MISMATCH = "possible etag mismatch. error from state store"
SCRIPT = "ERR user_script:14: failed to set key app||k script: 9f, on @user_script:14."

# Answers seen through a real daprd 1.18.2, or produced by the component's own script or driver.
ANSWERS = [
    (
        "state.in-memory",
        "v1",
        Call.CREATE,
        "ABORTED",
        SAVE + MISMATCH + ": item already exists and no etag was passed",
        CONFLICT,
    ),
    (
        "state.in-memory",
        "v1",
        Call.CAS,
        "ABORTED",
        SAVE + MISMATCH + ": state etag not match for key=app||k: current=1",
        CONFLICT,
    ),
    (
        "state.in-memory",
        "v1",
        Call.CAS,
        "ABORTED",
        SAVE + MISMATCH + ": state not exist or expired for key=app||k",
        CONFLICT,
    ),
    (
        "state.in-memory",
        "v1",
        Call.MULTI,
        "INTERNAL",
        MULTI + MISMATCH + ": state etag not match for key=app||k",
        CONFLICT,
    ),
    ("state.sqlite", "v1", Call.CREATE, "ABORTED", SAVE + MISMATCH, CONFLICT),
    ("state.sqlite", "v1", Call.CAS, "ABORTED", SAVE + MISMATCH, CONFLICT),
    ("state.sqlite", "v1", Call.DELETE, "ABORTED", DELETE + MISMATCH, CONFLICT),
    ("state.sqlite", "v1", Call.MULTI, "INTERNAL", MULTI + MISMATCH, CONFLICT),
    ("state.sqlite", "v1", Call.CAS, "INTERNAL", SAVE + "database is locked (5) (SQLITE_BUSY)", CONFLICT),
    ("state.sqlite", "v1", Call.CAS, "INTERNAL", SAVE + "disk I/O error", UNKNOWN),
    ("state.postgresql", "v1", Call.CREATE, "INTERNAL", SAVE + "no item was updated", CONFLICT),
    ("state.postgresql", "v2", Call.CREATE, "INTERNAL", SAVE + "no item was updated", CONFLICT),
    ("state.postgresql", "v2", Call.CAS, "INTERNAL", SAVE + "no item was updated", UNKNOWN),
    ("state.postgresql", "v1", Call.CAS, "ABORTED", SAVE + MISMATCH, CONFLICT),
    ("state.postgresql", "v2", Call.CAS, "ABORTED", SAVE + MISMATCH + ": invalid UUID length: 3", CONFLICT),
    ("state.postgresql", "v1", Call.CAS, "INVALID_ARGUMENT", SAVE + "invalid etag value", INVALID),
    ("state.postgresql", "v2", Call.MULTI, "INTERNAL", MULTI + MISMATCH, CONFLICT),
    ("state.postgresql", "v2", Call.MULTI, "INTERNAL", MULTI + "no item was updated", CONFLICT),
    (
        "state.postgresql",
        "v2",
        Call.MULTI,
        "INTERNAL",
        MULTI + "ERROR: deadlock detected (SQLSTATE 40P01)",
        CONFLICT,
    ),
    (
        "state.cockroachdb",
        "v2",
        Call.CAS,
        "INTERNAL",
        SAVE + "ERROR: restart transaction (SQLSTATE 40001)",
        CONFLICT,
    ),
    ("state.postgresql", "v2", Call.CAS, "INTERNAL", SAVE + "unexpected EOF", UNKNOWN),
    (
        "state.mysql",
        "v1",
        Call.CREATE,
        "ABORTED",
        SAVE + MISMATCH + ": rows affected error: no rows match",
        CONFLICT,
    ),
    (
        "state.mysql",
        "v1",
        Call.CREATE,
        "INTERNAL",
        SAVE + "Error 1062 (23000): Duplicate entry 'app||k'",
        CONFLICT,
    ),
    ("state.mysql", "v1", Call.CREATE, "INTERNAL", SAVE + "Error 1213 (40001): Deadlock found", CONFLICT),
    (
        "state.mysql",
        "v1",
        Call.MULTI,
        "INTERNAL",
        MULTI + "Error 1205 (HY000): Lock wait timeout exceeded",
        CONFLICT,
    ),
    ("state.mysql", "v1", Call.CAS, "INTERNAL", SAVE + "invalid connection", UNKNOWN),
    ("state.mysql", "v1", Call.CREATE, "INTERNAL", SAVE + "Error 1406 (22001): Data too long", INVALID),
    ("state.mysql", "v1", Call.GET, "INTERNAL", "Error 1267 (HY000): Illegal mix of collations", INVALID),
    ("state.mysql", "v1", Call.GET, "INTERNAL", "invalid connection", UNAVAILABLE),
    ("state.postgresql", "v2", Call.GET, "INTERNAL", "invalid byte sequence (SQLSTATE 22021)", INVALID),
    ("state.redis", "v1", Call.CREATE, "ABORTED", SAVE + MISMATCH + ": " + SCRIPT, CONFLICT),
    ("state.redis", "v1", Call.CAS, "ABORTED", SAVE + MISMATCH + ": " + SCRIPT, CONFLICT),
    ("state.redis", "v1", Call.CAS, "ABORTED", SAVE + MISMATCH + ": OOM command not allowed", SUSPECTED),
    ("state.redis", "v1", Call.CAS, "ABORTED", SAVE + MISMATCH + ": i/o timeout", SUSPECTED),
    (
        "state.redis",
        "v1",
        Call.CAS,
        "ABORTED",
        SAVE + MISMATCH + ": dial tcp: connect: connection refused",
        UNAVAILABLE,
    ),
    (
        "state.redis",
        "v1",
        Call.DELETE,
        "ABORTED",
        DELETE + MISMATCH + ": ERR user_script:6: failed to delete app||k",
        CONFLICT,
    ),
    ("state.redis", "v1", Call.BLIND, "ABORTED", DELETE + MISMATCH + ": EOF", UNKNOWN),
    # The value landed, only the expiry did not: never "certainly not applied".
    ("state.redis", "v1", Call.CAS, "INTERNAL", SAVE + "failed to set key app||k ttl: EOF", UNKNOWN),
    ("state.redis", "v1", Call.BLIND, "INTERNAL", SAVE + "failed to set key app||k: ERR", UNKNOWN),
    # A refused operation does not stop its neighbours.
    ("state.redis", "v1", Call.MULTI, "INTERNAL", MULTI + SCRIPT, SUSPECTED),
    ("state.redis", "v1", Call.MULTI, "INTERNAL", MULTI + "EOF", UNKNOWN),
    ("state.mongodb", "v1", Call.CREATE, "ABORTED", SAVE + MISMATCH + ": E11000 duplicate key", CONFLICT),
    (
        "state.mongodb",
        "v1",
        Call.MULTI,
        "INTERNAL",
        MULTI + "error during transaction, aborting: E11000",
        CONFLICT,
    ),
    ("state.mongodb", "v1", Call.MULTI, "OK", "", UNKNOWN),
    ("state.mongodb", "v1", Call.CAS, "INTERNAL", SAVE + "socket was unexpectedly closed: EOF", UNKNOWN),
    (
        "state.azure.cosmosdb",
        "v1",
        Call.CAS,
        "ABORTED",
        SAVE + MISMATCH + ":\nRESPONSE 412: Precondition Failed",
        CONFLICT,
    ),
    ("state.azure.cosmosdb", "v1", Call.MULTI, "INTERNAL", MULTI + "failed with status code 412", SUSPECTED),
    (
        "state.aws.dynamodb",
        "v1",
        Call.CREATE,
        "INTERNAL",
        SAVE + "ConditionalCheckFailedException: ..",
        CONFLICT,
    ),
    (
        "state.aws.dynamodb",
        "v1",
        Call.CAS,
        "ABORTED",
        SAVE + MISMATCH + ": ConditionalCheckFailedException",
        CONFLICT,
    ),
    (
        "state.aws.dynamodb",
        "v1",
        Call.MULTI,
        "INTERNAL",
        MULTI + "TransactionCanceledException: .. [None, ConditionalCheckFailed]",
        CONFLICT,
    ),
    ("state.aws.dynamodb", "v1", Call.MULTI, "INTERNAL", MULTI + "[TransactionConflict, None]", CONFLICT),
    (
        "state.azure.blobstorage",
        "v2",
        Call.CREATE,
        "INTERNAL",
        SAVE + "ERROR CODE: BlobAlreadyExists",
        CONFLICT,
    ),
    ("state.azure.tablestorage", "v1", Call.CREATE, "ABORTED", SAVE + MISMATCH, CONFLICT),
    ("state.azure.tablestorage", "v1", Call.DELETE, "ABORTED", DELETE + MISMATCH + ": EOF", SUSPECTED),
    ("state.azure.tablestorage", "v1", Call.CAS, "INTERNAL", SAVE + "ERROR CODE: InvalidInput", INVALID),
    ("state.couchbase", "v1", Call.CAS, "ABORTED", SAVE + MISMATCH + ": any", SUSPECTED),
    (
        "state.oracledatabase",
        "v1",
        Call.CREATE,
        "INTERNAL",
        SAVE + "ORA-00001: unique constraint violated",
        CONFLICT,
    ),
    ("state.sqlserver", "v1", Call.CAS, "ABORTED", SAVE + MISMATCH, CONFLICT),
    ("state.sqlserver", "v2", Call.CREATE, "OK", "", UNKNOWN),
    ("state.etcd", "v2", Call.CAS, "OK", "", UNKNOWN),
    ("state.etcd", "v2", Call.MULTI, "INTERNAL", MULTI + MISMATCH, SUSPECTED),
    ("state.zookeeper", "v1", Call.CAS, "ABORTED", SAVE + MISMATCH + ": zk: version conflict", SUSPECTED),
    ("state.zookeeper", "v1", Call.CREATE, "INTERNAL", SAVE + "zk: invalid ACL specified", INVALID),
    ("state.memcached", "v1", Call.CAS, "OK", "", UNKNOWN),
    ("state.memcached", "v1", Call.BLIND, "OK", "", COMMITTED),
    (
        "state.memcached",
        "v1",
        Call.MULTI,
        "UNIMPLEMENTED",
        "state store store doesn't support transaction",
        INVALID,
    ),
]


@pytest.mark.parametrize(("type", "version", "call", "code", "text", "expected"), ANSWERS)
def test_the_measured_answers(
    type: str, version: str, call: Call, code: str, text: str, expected: Verdict
) -> None:
    """
    Each wording seen in the field has the verdict it deserves.
    """
    assert expected == classify(find(type, version), call, code, text)


SENT = [Call.CREATE, Call.CAS, Call.DELETE, Call.BLIND, Call.MULTI]
EVERY = [(profile, call) for profile in [*profiles.values(), unknown("state.new", "v1")] for call in SENT]


@pytest.mark.parametrize(
    "code", ["DEADLINE_EXCEEDED", "CANCELLED", "UNAVAILABLE", "UNKNOWN", "DATA_LOSS", "NOT_FOUND", "?"]
)
def test_a_broken_call_proves_nothing(code: str) -> None:
    """
    Whatever its text says, an answer that is not the store's own proves neither success nor refusal.
    """
    for profile, call in EVERY:
        for text in (MISMATCH, SCRIPT, "no item was updated", "E11000", "SQLSTATE 40P01", ""):
            assert classify(profile, call, code, text) in (UNKNOWN, UNAVAILABLE)


@pytest.mark.parametrize(
    "text",
    [
        "rpc error: code = FailedPrecondition desc = state store is not configured",
        "state store nosuch is not found",
    ],
)
def test_a_missing_store_is_refused_for_good(text: str) -> None:
    """
    No store of that name: nothing was written, on whatever profile the caller assumed.
    """
    for profile, call in EVERY:
        assert INVALID == classify(profile, call, "FAILED_PRECONDITION", text)
        assert UNKNOWN == classify(profile, call, "FAILED_PRECONDITION", "something else")


def test_a_message_over_the_limit_is_refused_for_good() -> None:
    """
    GRPC's size limit is checked before the store sees anything; other exhaustion may strike later.
    """
    redis = find("state.redis")
    too_large = "grpc: received message larger than max (5000000 vs. 4194304)"
    assert INVALID == classify(redis, Call.CAS, "RESOURCE_EXHAUSTED", too_large)
    assert UNAVAILABLE == classify(redis, Call.CAS, "RESOURCE_EXHAUSTED", "too many requests")


def test_the_text_of_an_error_is_not_searched_in_the_key() -> None:
    """
    A key that spells an error cannot turn an outage into a conflict, or hide one.
    """
    key = "failed to delete"
    redis = find("state.redis")
    outage = (
        f"failed deleting state with key {key}: possible etag mismatch. error from state store: i/o timeout"
    )
    assert CONFLICT == classify(redis, Call.DELETE, "ABORTED", outage)
    assert SUSPECTED == classify(redis, Call.DELETE, "ABORTED", outage, [key])


codes = st.sampled_from(
    [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ]
) | st.text(max_size=20)
stores = st.sampled_from([*profiles.values(), unknown("state.new", "v1")])
wordings = st.sampled_from(
    sorted({t for p in profiles.values() for c in Call for t in (*conflict_texts(p, c), *p.retryable_texts)})
)
texts = st.lists(st.text(max_size=30) | wordings, max_size=4).map(": ".join)


@given(stores, st.sampled_from(list(Call)), codes, texts, st.lists(st.text(max_size=12), max_size=2))
def test_no_answer_is_too_strange(
    profile: Profile, call: Call, code: str, text: str, keys: list[str]
) -> None:
    """
    Every input has a verdict; only an OK commits, and only the codes of a refusal refuse.
    """
    verdict = classify(profile, call, code, text, keys)
    cause_of(profile, call, code, text)
    if verdict is COMMITTED:
        assert "OK" == code.upper()
        assert call not in profile.lies
    if verdict in (CONFLICT, SUSPECTED):
        assert code.upper() in ("ABORTED", "INTERNAL")
        assert call is not Call.GET
    if verdict is CONFLICT:
        assert call not in profile.suspects or any(t.lower() in text.lower() for t in profile.retryable_texts)
        assert call is not Call.MULTI or profile.native != "none"


@given(stores, st.sampled_from(SENT), st.text(max_size=60))
def test_an_internal_error_without_a_known_wording_proves_nothing(
    profile: Profile, call: Call, text: str
) -> None:
    """
    INTERNAL is daprd's word for everything: without the wording of a conflict it may hide a landed write.
    """
    known = [
        t
        for c in Call
        for t in (*conflict_texts(profile, c), *profile.retryable_texts, *profile.invalid_texts)
    ]
    if not any(t.lower() in text.lower() for t in known):
        assert classify(profile, call, "INTERNAL", text) in (UNKNOWN, UNAVAILABLE)


@pytest.mark.parametrize(
    ("type", "call", "code", "text", "expected"),
    [
        ("state.sqlite", Call.CAS, "ABORTED", MISMATCH, "etag_mismatch"),
        ("state.sqlite", Call.CREATE, "ABORTED", MISMATCH, "exists"),
        ("state.sqlite", Call.MULTI, "INTERNAL", MISMATCH, "transaction_abort"),
        ("state.sqlite", Call.CAS, "INTERNAL", "database is locked", "lock_busy"),
        ("state.redis", Call.CAS, "ABORTED", "OOM", "etag_mismatch"),
        ("state.redis", Call.CAS, "DEADLINE_EXCEEDED", MISMATCH, "unknown"),
    ],
)
def test_the_cause_as_the_log_spells_it(type: str, call: Call, code: str, text: str, expected: str) -> None:
    """
    The log names the cause of a lost attempt by five fixed words.
    """
    assert expected == cause_of(find(type), call, code, text)
