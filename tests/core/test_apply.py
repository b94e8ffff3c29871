"""
What a batch of calls makes of one read: every verb, in order, each with an answer of its own.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.support import EPOCH, NOTHING, add, errors_of, job, make_site
from toolkit.core.apply import apply
from toolkit.core.compose import body
from toolkit.core.jobs import Batch, Done, Failed, Rules
from toolkit.core.model import ABSENT, CLEAR, DELETE, UNCHANGED, ETag, Row
from toolkit.core.seen import Seen, see
from toolkit.core.stamp import MAX_IDS, Applied, Stamp
from toolkit.core.value import digest

RULES = Rules()


def stored(value: dict[str, Any], **stamp: Any) -> Seen:
    return see("k", Row(body("k", value, Stamp("v1", "absent", digest(value), **stamp)), "1"))


ADA = {"n": 1, "tags": ["x"]}


def batch(seen: Seen, *jobs: Any, rules: Rules = RULES, now: float = EPOCH) -> Batch:
    return apply(seen, jobs, now, rules)


def answer(result: Done | Failed) -> Any:
    return result.value if isinstance(result, Done) else type(result.error).__name__


@pytest.mark.parametrize(
    ("seen", "call", "value", "told", "dirty"),
    [
        (stored(ADA), job("update", change=add()), {"n": 2, "tags": ["x"]}, {"n": 2, "tags": ["x"]}, True),
        (stored(ADA), job("update", change=lambda _: UNCHANGED), ADA, ADA, False),
        (stored(ADA), job("update", change=lambda _: DELETE), ABSENT, None, True),
        (stored(ADA), job("update", change=lambda _: None), ADA, "TypeError", False),
        (stored(ADA), job("update", change=lambda _: CLEAR), ADA, "TypeError", False),
        (stored(ADA), job("update", change=lambda value: value["nope"]), ADA, "KeyError", False),
        (NOTHING, job("update", change=add()), ABSENT, "NotFoundError", False),
        (NOTHING, job("update", change=add(), default={"n": 0}), {"n": 1}, {"n": 1}, True),
        (NOTHING, job("update", change=lambda _: UNCHANGED, default=None), ABSENT, None, False),
        (
            NOTHING,
            job("update", change=lambda value: {"was": value}, default=None),
            {"was": None},
            {"was": None},
            True,
        ),
        (stored(ADA), job("set", value={"b": 2}), {"b": 2}, None, True),
        (NOTHING, job("set", value={"b": 2}), {"b": 2}, None, True),
        (stored(ADA), job("create", value={"b": 2}), ADA, "AlreadyExistsError", False),
        (NOTHING, job("create", value={"b": 2}), {"b": 2}, None, True),
        (stored({}, gone=True), job("create", value={"b": 2}), {"b": 2}, None, True),
        (stored(ADA), job("compare_and_set", value={"b": 2}, etag=ETag("v1")), {"b": 2}, None, True),
        (stored(ADA), job("compare_and_set", value={"b": 2}, etag=ETag("v0")), ADA, "ConflictError", False),
        (stored(ADA), job("compare_and_set", value={"b": 2}, etag=ABSENT), ADA, "AlreadyExistsError", False),
        (NOTHING, job("compare_and_set", value={"b": 2}, etag=ABSENT), {"b": 2}, None, True),
        (NOTHING, job("compare_and_set", value={"b": 2}, etag=ETag("v1")), ABSENT, "ConflictError", False),
        (
            stored({}, gone=True),
            job("compare_and_set", value={}, etag=ETag("v1")),
            ABSENT,
            "ConflictError",
            False,
        ),
        (stored(ADA), job("delete"), ABSENT, None, True),
        (NOTHING, job("delete"), ABSENT, None, False),
        (stored({}, gone=True), job("delete"), ABSENT, None, False),
        (stored(ADA), job("delete", etag=ETag("v1")), ABSENT, None, True),
        (stored(ADA), job("delete", etag=ETag("v0")), ADA, "ConflictError", False),
        (NOTHING, job("delete", etag=ETag("v0")), ABSENT, "ConflictError", False),
    ],
)
def test_each_verb(seen: Seen, call: Any, value: Any, told: Any, dirty: bool) -> None:
    """What a call writes, what its caller is told, and whether anything is written at all."""
    done = batch(seen, call)
    assert (done.working.value, answer(done.results[0]), done.working.dirty) == (value, told, dirty)


def test_a_failed_call_leaves_the_others_alone() -> None:
    """An exception reaches its caller; the calls before and after it see each other."""

    def broken(value: Any) -> Any:
        value["n"] = 99
        raise LookupError("planted")

    done = batch(
        stored(ADA), job("update", change=add()), job("update", change=broken), job("update", change=add(10))
    )
    assert [answer(result) for result in done.results] == [
        {"n": 2, "tags": ["x"]},
        "LookupError",
        {"n": 12, "tags": ["x"]},
    ]
    assert (done.working.value, done.changed) == ({"n": 12, "tags": ["x"]}, 2)


def test_calls_see_what_the_ones_before_them_are_about_to_write() -> None:
    """Create, create again, delete and create: only the second one fails."""
    done = batch(
        NOTHING,
        job("create", value={"a": 1}),
        job("create", value={"b": 1}),
        job("delete"),
        job("create", value={"c": 1}),
    )
    assert errors_of(done.results) == ["ok", "AlreadyExistsError", "ok", "ok"]
    assert done.working.value == {"c": 1}


def test_one_compare_and_set_of_a_batch_wins() -> None:
    """Of two calls on one version the first changes it for the second."""
    calls = [job("compare_and_set", value={"n": number}, etag=ETag("v1")) for number in (5, 6)]
    done = batch(stored(ADA), *calls)
    assert (errors_of(done.results), done.working.value) == (["ok", "ConflictError"], {"n": 5})


def test_changes_get_copies() -> None:
    """Whatever a change does to its argument or its result later, neither the stored value nor the default notices."""
    kept: list[Any] = []

    def keep(value: Any) -> Any:
        kept.append(value)
        value["tags"].append("y")
        return value

    default = {"tags": []}
    seen = stored(ADA)
    done = batch(seen, job("update", change=keep))
    kept[0]["tags"].append("z")
    assert (done.working.value["tags"], seen.value["tags"]) == (["x", "y"], ["x"])
    for _ in range(2):
        assert batch(NOTHING, job("update", change=keep, default=default)).working.value == {"tags": ["y"]}
    assert default == {"tags": []}


async def later(value: Any) -> Any:
    return value


def hidden(value: Any) -> Any:
    return later(value)


def test_an_async_change_that_hides_is_caught_by_its_result() -> None:
    """A plain function that returns a coroutine writes nothing, and the coroutine is closed."""
    done = batch(stored(ADA), job("update", change=hidden))
    assert (answer(done.results[0]), done.working.dirty) == ("TypeError", False)


class TestOperationIds:
    def test_a_repeat_changes_nothing_and_tells_the_value_now(self) -> None:
        """Twice in one batch counts once."""
        calls = [job("update", change=add(), op_id="m-1") for _ in range(2)]
        done = batch(stored(ADA), *calls)
        assert [answer(result)["n"] for result in done.results] == [2, 2]
        assert (done.working.value["n"], done.changed) == (2, 1)

    def test_the_same_id_for_something_else_is_refused(self) -> None:
        """Another verb or another function with an id that is taken is an error, and writes nothing."""
        first = job("update", change=add(), op_id="m-1")
        done = batch(stored(ADA), first, job("set", value={"x": 1}, op_id="m-1"))
        assert errors_of(done.results) == ["ok", "OperationIdReusedError"]
        assert done.working.value["n"] == 2

    @pytest.mark.parametrize("verb", ["create", "set", "compare_and_set", "delete"])
    def test_a_repeat_of_any_verb_is_told_that_it_is_done(self, verb: str) -> None:
        """A repeated create finds its own id before it finds the key present, and so on."""
        parts = {} if verb == "delete" else {"value": {"n": 5}}
        etag = {"etag": ETag("v1")} if verb == "compare_and_set" else {}
        seen = NOTHING if verb == "create" else stored(ADA)
        calls = [job(verb, op_id="m-1", **parts, **etag) for _ in range(2)]
        assert errors_of(batch(seen, *calls).results) == ["ok", "ok"]

    def test_a_call_that_failed_leaves_no_id(self) -> None:
        """A refused create can be repeated under its id once the key is free."""
        done = batch(stored(ADA), job("create", value={}, op_id="m-1"))
        assert (errors_of(done.results), done.working.ops, done.working.dirty) == (
            ["AlreadyExistsError"],
            (),
            False,
        )

    def test_a_call_that_changes_nothing_still_leaves_its_id(self) -> None:
        """UNCHANGED under an id is an effect of its own: that this operation is done."""
        done = batch(stored(ADA), job("update", change=lambda _: UNCHANGED, op_id="m-1"))
        assert (len(done.working.ops), done.working.dirty, done.working.value) == (1, True, ADA)

    def test_a_full_ring_is_refused_before_anything_is_sent(self) -> None:
        """Ids younger than the window are never dropped: the call says when there is room again."""
        ops = tuple(Applied(number, int(EPOCH) - 100, 0) for number in range(MAX_IDS))
        done = batch(
            stored(ADA, ops=ops), job("update", change=add(), op_id="m-1"), job("update", change=add())
        )
        assert errors_of(done.results) == ["OperationWindowError", "ok"]
        assert isinstance(done.results[0], Failed)
        assert "free in 500 s" in str(done.results[0].error)
        assert done.working.ops == ops

    def test_ids_older_than_the_window_make_room(self) -> None:
        """Beyond the newest 128 an id past its window goes."""
        ops = tuple(Applied(number, int(EPOCH) - 700, 0) for number in range(MAX_IDS))
        done = batch(stored(ADA, ops=ops), job("update", change=add(), op_id="m-1"))
        assert (errors_of(done.results), len(done.working.ops)) == (["ok"], 128)

    def test_an_id_is_kept_for_the_whole_window(self) -> None:
        """Its time is kept in whole seconds, and still it does not go a fraction early."""
        ops = batch(stored(ADA), job("update", change=add(), op_id="m-1"), now=EPOCH + 0.9).working.ops
        newer = tuple(Applied(number, int(EPOCH) + 1, 0) for number in range(128))
        for age, kept in ((599.5, True), (600.5, False)):
            later = EPOCH + 0.9 + age
            done = batch(stored(ADA, ops=(*ops, *newer)), job("update", change=add(), op_id="m-2"), now=later)
            assert (ops[0] in done.working.ops) is kept


class TestExpiry:
    def test_an_expired_value_is_missing(self) -> None:
        """Readers and writers agree: at ``exp`` the value is gone, and with it its version."""
        seen = stored(ADA, expires=EPOCH)
        done = batch(seen, job("update", change=add()), job("create", value={"n": 7}))
        assert (errors_of(done.results), done.working.value) == (["NotFoundError", "ok"], {"n": 7})

    @pytest.mark.parametrize(
        ("call", "expires"),
        [
            (job("update", change=add()), EPOCH + 50),
            (job("update", change=add(), ttl=CLEAR), None),
            (job("update", change=add(), ttl=7.5), EPOCH + 7.5),
            (job("set", value={}, ttl=CLEAR), None),
            (job("delete"), None),
        ],
    )
    def test_each_ttl(self, call: Any, expires: float | None) -> None:
        """KEEP keeps the moment, CLEAR takes it away, seconds count from now."""
        assert batch(stored(ADA, expires=EPOCH + 50), call).working.expires == expires

    def test_a_store_without_expiry_refuses_it(self) -> None:
        """``ttl=`` where nothing expires is an error, and writes nothing."""
        done = batch(stored(ADA), job("set", value={}, ttl=5), rules=Rules(has_ttl=False))
        assert (errors_of(done.results), done.working.value) == (["TTLUnsupportedError"], ADA)


class TestBareValues:
    @pytest.mark.parametrize("value", [[1, 2], 3, "text", True, 1.5])
    def test_a_scalar_is_stored_as_it_is(self, value: Any) -> None:
        """Lists and scalars need no envelope as long as nothing has to be kept with them."""
        assert batch(NOTHING, job("set", value=value)).working.value == value

    def test_a_scalar_carries_no_id_and_no_expiry(self) -> None:
        """Each is refused with the cure."""
        done = batch(NOTHING, job("set", value=3, op_id="m-1"), job("set", value=3, ttl=5))
        assert errors_of(done.results) == ["InvalidValueError", "InvalidValueError"]
        for result in done.results:
            assert isinstance(result, Failed)
            assert "envelope=True" in str(result.error)

    def test_in_an_envelope_it_carries_both(self) -> None:
        """``envelope=True`` is the cure."""
        done = batch(NOTHING, job("set", value=3, op_id="m-1", ttl=5), rules=Rules(envelope=True))
        assert (errors_of(done.results), done.working.value) == (["ok"], 3)


def test_a_store_without_a_safe_create_refuses_what_could_create() -> None:
    """Everything that could make a key is refused with the store's reasons; a delete of nothing is fine."""
    rules = Rules(can_create=False, create_reasons=("Two creators can both win.",))
    calls = [
        job("create", value={}),
        job("set", value={}),
        job("update", change=add(), default={"n": 0}),
        job("compare_and_set", value={}, etag=ABSENT),
        job("delete"),
    ]
    done = batch(NOTHING, *calls, rules=rules)
    assert errors_of(done.results) == ["UnsafeStoreError"] * 4 + ["ok"]
    assert make_site("sqlserver").rules.can_create is False
