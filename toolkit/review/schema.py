"""
Schema version 1 of the conflict log: every event, every field, as data and as JSON Schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

VERSION: Final = 1
# No count and no duration of a log is larger; nor does anybody keep less than one race in a million.
MOST: Final = 2**53
MOST_SECONDS: Final = 1e9
LEAST_SAMPLE: Final = 1e-6

# C conflict, K committed, G gave_up, U outcome_unknown, A access_denied, W warning, S summary.
EVENTS: Final[dict[str, tuple[str, str, str]]] = {
    "occ.conflict": (
        "C",
        "info",
        "A write was refused since the value had changed; one line per lost attempt.",
    ),
    "occ.committed": (
        "K",
        "info",
        "A write went through, or there was nothing to write; one line per write.",
    ),
    "occ.gave_up": ("G", "error", "An operation failed: attempts, deadline, cancelled or an error."),
    "occ.outcome_unknown": (
        "U",
        "error",
        "A write was sent and nothing can prove now whether it took effect.",
    ),
    "occ.access_denied": ("A", "warning", "A call was refused since the handle has no right to it."),
    "occ.warning": ("W", "warning", "Something worth knowing, said once."),
    "occ.summary": ("S", "info", "Exact totals of one process over some seconds, whatever the sampling."),
}
CAUSES: Final = ("etag_mismatch", "transaction_abort", "exists", "lock_busy", "unknown")
WINNER_KINDS: Final = ("committed", "intent", "aborted", "rollback", "finalise", "fence", "foreign")
REASONS: Final = ("attempts", "deadline", "cancelled", "error")
PATHS: Final = ("single", "native", "intents")


@dataclass(frozen=True, slots=True)
class Field:
    """
    One field: its JSON type, the events that can have it, what it means.
    """

    name: str
    type: str
    on: str
    meaning: str
    values: tuple[str, ...] = ()
    pattern: str = ""
    required: str = ""


_HEX16: Final = "^[0-9a-f]{16}$"
_ALL: Final = "CKGUAWS"

FIELDS: Final[tuple[Field, ...]] = (
    Field("v", "integer", _ALL, "schema version", required=_ALL),
    Field("event", "string", _ALL, "name of the event", required=_ALL),
    Field("level", "string", _ALL, "a conflict is a warning from its third lost attempt on", ("info", "warning", "error"), required=_ALL),
    Field("timestamp", "string", _ALL, "ISO 8601 in UTC with microseconds", required=_ALL),
    Field("app", "string", _ALL, "Dapr app id"),
    Field("inst", "string", _ALL, "instance, as `host:pid`"),
    Field("writer", "string", _ALL, "logical writer; by default the app, else the instance"),
    Field("store", "string", _ALL, "name of the Dapr component"),
    Field("op", "string", "CKGUAS", "operation: the verb, the function's name or the name given"),
    Field("call_id", "string", "CKGU", "joins the lines of one call", pattern=_HEX16),
    Field("op_id", "string", "CKGU", "the caller's own operation id; hashed when keys are"),
    Field("key", "string", "CKGUA", "the key, its hash or its template"),
    Field("keys", "array", "CKGU", "the keys of a multi-key write"),
    Field("key_tpl", "string", "CKGUAS", "template of the key, such as `order-{id}`; at most 100, then `_other`"),
    Field("race", "string", "CKG", "keyed hash of (store, key, version built on): joins losers and winner", pattern=_HEX16),
    Field("races", "array", "CKG", "one race per key of `keys`"),
    Field("base_etag", "string", "CKG", "the store's ETag the write was built on, or `absent`; not logged when keys are hidden"),
    Field("base_etags", "array", "CKG", "one `base_etag` per key of `keys`"),
    Field("incarnation", "string", "CKG", "the incarnation or tombstone a create was built on"),
    Field("seen_etag", "string", "C", "ETag of the re-read, or `absent`; not logged when keys are hidden"),
    Field("attempt", "integer", "CKGU", "this attempt, from 1"),
    Field("max_attempts", "integer", "CG", "the limit; 0 is none"),
    Field("read_s", "number", "CKG", "the read of this attempt"),
    Field("fn_s", "number", "CKG", "the user's function in this attempt"),
    Field("write_s", "number", "CKG", "the write of this attempt"),
    Field("lost_s", "number", "CKGS", "work thrown away: on C this attempt's, elsewhere the sum over lost attempts"),
    Field("wait_s", "number", "CKGS", "on C the backoff to come, elsewhere the sum waited"),
    Field("total_s", "number", "KGUS", "first read to end"),
    Field("cause", "string", "CG", "why the write was refused", CAUSES),
    Field("transport", "string", "CG", "how the store was asked", ("grpc", "http", "memory")),
    Field("status", "string", "CG", "what it answered, such as `ABORTED`"),
    Field("winner", "string", "C", "id of the write or transaction found by the re-read; some commit's `write_id`"),
    Field("winner_kind", "string", "C", "what the winner is", WINNER_KINDS),
    Field("maybe_self", "boolean", "C", "the value found, which has no stamp, equals the one this attempt tried to write"),
    Field("write_id", "string", "CKU", "id of this write"),
    Field("path", "string", "CK", "how it was, or was to be, committed", PATHS),
    Field("combined", "integer", "CKGU", "how many updates this one write carried"),
    Field("noop", "boolean", "K", "nothing had to be written"),
    Field("noop", "integer", "S", "operations that had nothing to write"),
    Field("conflicts", "integer", "KGS", "attempts lost before"),
    Field("bytes", "integer", "CK", "size written; never the content"),
    Field("isolation", "string", "CKG", "isolation level of a transaction"),
    Field("reason", "string", "GU", "why it ended", REASONS),
    Field("error_type", "string", "GU", "class name of the error; never its text"),
    Field("receipt", "string", "U", "what `store.resolve` takes; not logged when keys are hidden"),
    Field("access", "string", "A", "the right that was missing"),
    Field("message", "string", "W", "what is worth knowing"),
    Field("trace_id", "string", "CKGUAW", "active OpenTelemetry trace"),
    Field("span_id", "string", "CKGUAW", "active OpenTelemetry span"),
    Field("workflow_id", "string", "CKGUAW", "workflow instance"),
    Field("activity", "string", "CKGUAW", "workflow activity"),
    Field("actor_type", "string", "CKGUAW", "actor type"),
    Field("actor_id", "string", "CKGUAW", "actor id; hashed when keys are"),
    Field("actor_method", "string", "CKGUAW", "method of the actor whose turn it is"),
    Field("turn", "integer", "CKGUAW", "turn of the activation, from 1; 0 is the activation itself"),
    Field("epoch", "integer", "CKGUAW", "epoch of a fenced activation; 0 while it has none"),
    Field("request_id", "string", "CKGUAW", "bound by the application"),
    Field("sample", "number", "CK", "probability with which this line was kept, when below 1"),
    Field("window_s", "number", "S", "seconds this summary covers"),
    Field("ops", "integer", "S", "operations ended"),
    Field("updates", "integer", "S", "updates committed, those carried by one write counted each"),
    Field("attempts", "integer", "S", "attempts made by operations that ended"),
    Field("gave_up", "integer", "S", "operations that gave up"),
    Field("unknown", "integer", "S", "operations whose outcome stayed unknown"),
    Field("max_attempt", "integer", "S", "highest attempt seen"),
    Field("dropped", "integer", "S", "lines that could not be written"),
)  # fmt: skip


_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "integer": (int,), "number": (int, float), "string": (str,), "array": (list,), "boolean": (bool,),
}  # fmt: skip
_ALLOWED: Final = {
    name: tuple(kind for field in FIELDS if field.name == name for kind in _KINDS[field.type])
    for name in {field.name for field in FIELDS}
}


def fits(name: str, value: Any) -> bool:
    """
    Whether a field has a value of the kind the schema says; true of a field the schema does not know.
    """
    return name not in _ALLOWED or type(value) in _ALLOWED[name]


def _property(field: Field) -> dict[str, Any]:
    found: dict[str, Any] = {"type": field.type, "description": field.meaning}
    if field.type == "array":
        found["items"] = {"type": "string"}
    elif field.name == "sample":
        found |= {"minimum": LEAST_SAMPLE, "maximum": 1}
    elif field.type in ("integer", "number"):
        found |= {"minimum": 0, "maximum": MOST if field.type == "integer" else MOST_SECONDS}
    if field.values:
        found["enum"] = list(field.values)
    if field.pattern:
        found["pattern"] = field.pattern
    return found


def json_schema() -> dict[str, Any]:
    """
    The JSON Schema (2020-12) of one line; unknown fields are allowed, since an application may bind its own.
    """
    kinds: list[dict[str, Any]] = []
    for name, (letter, _, meaning) in EVENTS.items():
        known = [field for field in FIELDS if letter in field.on]
        kinds.append(
            {
                "title": name,
                "description": meaning,
                "type": "object",
                "properties": {field.name: _property(field) for field in known}
                | {"event": {"const": name}, "v": {"const": VERSION}},
                "required": [field.name for field in known if letter in field.required],
            }
        )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"dapr-occ conflict log, version {VERSION}",
        "oneOf": kinds,
    }
