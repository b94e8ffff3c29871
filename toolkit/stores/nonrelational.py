"""
The document, key-value and object stores the toolkit writes to under protection.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from toolkit.stores.profile import Call, Profile
from toolkit.stores.relational import RESTORE

_EMULATED: Final = (
    "The evidence comes from an emulator: it proves what the Dapr component does, not how the cloud service behaves "
    "under load, throttling or failover."
)
_RESURRECTION: Final = (
    "A write with the ETag of a key that was deleted creates the key again, so a plain delete can be undone by a "
    "toolkit write under way: delete through the toolkit."
)

MONGODB: Final = Profile(
    "state.mongodb",
    "v1",
    "B",
    native="read-back",
    send_ttl="never",
    ghosts=True,
    recreates=True,
    bulk_pays=True,
    shows_ttl=True,
    mangles=frozenset({"binary", "dollar"}),
    lies=frozenset({Call.MULTI}),
    reads="as the readConcern of the component says; linearizable only with readConcern=linearizable or majority on "
    "one primary",
    multi_conflict_texts=("E11000",),
    retryable_texts=("WriteConflict",),
    evidence="live",
    cautions=(
        _EMULATED,
        (
            "Transactions need a replica set, and the component drops the error of a failed commit: the toolkit commits "
            "several keys by its own protocol, never by MongoDB's transactions."
        ),
        _RESURRECTION,
        (
            "A raw value that begins with '$' is evaluated as an expression and bytes that are not UTF-8 are mangled; the "
            "JSON the toolkit writes is neither."
        ),
        "Expired documents linger for up to a minute and refuse a create: the toolkit sends no ttlInSeconds.",
        RESTORE,
    ),
)

COSMOSDB: Final = Profile(
    "state.azure.cosmosdb",
    "v1",
    "B",
    native="none",
    recreates=True,
    linearizable=False,
    bulk_pays=False,
    delete_gone="OK",
    wild_etags=frozenset({"*"}),
    shows_ttl=True,
    resends=True,
    mangles=frozenset({"large-integer"}),
    key_pattern=r"[^/\\?#]+",
    max_operations=100,
    reads="the account's default; Dapr's 'strong' is only Session consistency",
    multi_conflict_texts=("failed with status code 412", "status code 412"),
    evidence="live",
    cautions=(
        _EMULATED,
        "Reads are not linearizable across clients, so transactions are not offered as serializable here.",
        (
            "Transactions of the store work inside one partition key only; the toolkit leaves each key in its own "
            "partition, as Dapr does, and never mixes the two: writing a key with another partitionKey makes a second "
            "item."
        ),
        _RESURRECTION,
        "Integers above 2**53 inside JSON objects lose digits.",
    ),
)

DYNAMODB: Final = Profile(
    "state.aws.dynamodb",
    "v1",
    "B",
    native="truthful",
    send_ttl="never",
    ghosts=True,
    strong_reads=True,
    first_write="INTERNAL",
    shows_ttl=True,
    resends=True,
    max_value=400 * 1024,
    max_key=2048,
    max_operations=100,
    multi_ignores=frozenset({Call.DELETE}),
    reads="eventual unless asked strong",
    create_texts=("ConditionalCheckFailed",),
    multi_conflict_texts=("ConditionalCheckFailed",),
    retryable_texts=("TransactionConflict",),
    evidence="live",
    cautions=(
        _EMULATED,
        "Only strong reads see the last write; the toolkit asks for them.",
        (
            "A delete inside a transaction ignores its ETag and a key named twice loses its first condition: the toolkit "
            "sends neither."
        ),
        "Expired items linger for days and refuse a create: the toolkit sends no ttlInSeconds.",
        "An item has at most 400 KB, a key at most 2048 bytes.",
    ),
)

REDIS: Final = Profile(
    "state.redis",
    "v1",
    "C",
    create="impossible-etag",
    native="none",
    send_ttl="always",
    etag_repeats=True,
    etag_counts=True,
    recreates=True,
    resends=True,
    keeps_ttl=True,
    first_write="overwrites",
    delete_gone="OK",
    malformed_etag="INVALID_ARGUMENT",
    wild_etags=frozenset({"0"}),
    multi_ignores=frozenset({Call.CREATE}),
    conflict_needs_text=("failed to set key", "failed to delete"),
    multi_conflict_texts=("failed to set key", "failed to delete"),
    reads="strong on the master; after a failover an acknowledged write can be gone",
    evidence="live",
    cautions=(
        (
            "Redis applies the rest of a transaction when one of its operations is refused, so the toolkit commits "
            "several keys by its own protocol, never by Redis' transactions."
        ),
        "ETags count from 1 and repeat after a delete or an expiry, and "
        + _RESURRECTION[0].lower()
        + _RESURRECTION[1:],
        (
            "A key once written by first-write refuses every plain write until it is deleted; the toolkit never sends "
            "first-write."
        ),
        "Any error of a conditional write is worded as a conflict, outages too: the toolkit re-reads.",
        "Set maxmemory-policy noeviction; data is as durable as appendonly and appendfsync (always) make it.",
    ),
)

BLOBSTORAGE_V1: Final = Profile(
    "state.azure.blobstorage",
    "v1",
    "C",
    native="none",
    send_ttl="never",
    has_ttl=False,
    first_write="INTERNAL",
    resends=True,
    wild_etags=frozenset({"*"}),
    create_texts=("BlobAlreadyExists",),
    evidence="live",
    cautions=(
        _EMULATED,
        "The component drops the app id from the key, so apps that share a container share keys.",
        "There is no TTL: tombstones stay and ttl= is refused.",
        "A delete of a key that is gone is answered OK or as a conflict, as the service words it.",
    ),
)

BLOBSTORAGE_V2: Final = replace(
    BLOBSTORAGE_V1, version="v2", cautions=(_EMULATED, *BLOBSTORAGE_V1.cautions[2:])
)

TABLESTORAGE: Final = Profile(
    "state.azure.tablestorage",
    "v1",
    "C",
    native="none",
    send_ttl="never",
    has_ttl=False,
    recreates=True,
    resends=True,
    malformed_etag="INTERNAL",
    wild_etags=frozenset({"*"}),
    suspects=frozenset({Call.DELETE}),
    max_value=32 * 1024,
    key_pattern=r"[^/\\#?]+",
    mangles=frozenset({"binary"}),
    invalid_texts=("InvalidInput",),
    evidence="live",
    cautions=(
        _EMULATED,
        _RESURRECTION,
        "A conditional delete words every failure as a conflict: the toolkit re-reads.",
        "A value has at most 64 KB of UTF-16, and bytes that are not UTF-8 are mangled.",
        "There is no TTL: tombstones stay and ttl= is refused.",
    ),
)

COUCHBASE: Final = Profile(
    "state.couchbase",
    "v1",
    "C",
    create="none",
    native="none",
    send_ttl="never",
    has_ttl=False,
    first_write="overwrites",
    delete_gone="ABORTED",
    malformed_etag="unknown",
    wild_etags=frozenset({"0"}),
    suspects=frozenset({Call.CAS, Call.DELETE}),
    cautions=(
        "Known from the component's source only.",
        (
            "There is no create: a first-write overwrites an existing key. The toolkit updates existing keys and refuses "
            "whatever could create one."
        ),
        "Any failure of a conditional write is worded as a conflict: the toolkit re-reads.",
    ),
)

RAVENDB: Final = Profile(
    "state.ravendb",
    "v1",
    "C",
    create="none",
    native="none",
    recreates=True,
    bulk_pays=True,
    first_write="unknown",
    delete_gone="unknown",
    malformed_etag="unknown",
    lies=frozenset({Call.CREATE}),
    multi_ignores=frozenset({Call.DELETE}),
    reads="not checked",
    linearizable=False,
    cautions=(
        "Known from the component's source only.",
        (
            "There is no safe create: of several first-writes at once more than one can be answered OK. The toolkit "
            "updates existing keys and refuses whatever could create one."
        ),
        "Deletes inside a transaction ignore their ETag, so its transactions are not used.",
        _RESURRECTION,
    ),
)

NONRELATIONAL: Final = (
    MONGODB,
    COSMOSDB,
    DYNAMODB,
    REDIS,
    BLOBSTORAGE_V1,
    BLOBSTORAGE_V2,
    TABLESTORAGE,
    COUCHBASE,
    RAVENDB,
)
