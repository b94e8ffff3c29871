"""
Checkpoints on a store in memory: who may save, what survives, and how old data come up to date.
"""

from __future__ import annotations

import pytest

from tests.workflows.engine import Context, Engine
from toolkit import NotFoundError, StateStore, ValueTooLargeError
from toolkit.testing import MemoryStore
from workflows import (
    CheckpointFencedError,
    Checkpoints,
    CheckpointVersionError,
    WorkflowKit,
    continue_with,
    load_checkpoint,
    save_checkpoint,
)
from workflows.checkpoints import LIMIT


@pytest.fixture(params=["sqlite", "redis"])
def store(request):
    with StateStore("s", port=MemoryStore(request.param)) as store:
        yield store


@pytest.fixture
def kit(runtime, store):
    return WorkflowKit(runtime, store)


@pytest.fixture
def engine(runtime, activity, kit):
    kit.workflow(name="any")(lambda ctx: None)
    return Engine(runtime, activity)


def load(ctx, **options):
    return load_checkpoint(ctx, "rollup", "2026-10", **{"default": {"page": 0}, **options})


def test_what_was_saved_is_loaded(engine, store):
    """
    By the same run and by another one; each save counts on, each load raises the epoch.
    """
    ctx = Context("w1")
    cp = engine.run(ctx, load(ctx))
    assert ({"page": 0}, 0, 1, "w1") == (cp.data, cp.seq, cp.epoch, cp.owner)
    cp = cp.next({"page": 40})
    info = engine.run(ctx, save_checkpoint(ctx, cp))
    assert (1, 1) == (info.seq, info.epoch)
    later = engine.run(Context("w2"), load(Context("w2")))
    assert ({"page": 40}, 1, 2, "w2") == (later.data, later.seq, later.epoch, later.owner)
    record = Checkpoints(store).get("rollup", "2026-10")
    assert ({"page": 40}, "w2") == (record["data"], record["owner"])


def test_a_superseded_run_saves_nothing(engine, store):
    """
    Once another run has loaded the checkpoint, the older one is refused, now and for good.
    """
    old, new = Context("w1"), Context("w2")
    mine = engine.run(old, load(old))
    theirs = engine.run(new, load(new))
    with pytest.raises(CheckpointFencedError, match="taken over by workflow 'w2'"):
        engine.run(old, save_checkpoint(old, mine.next({"page": 1})))
    engine.run(new, save_checkpoint(new, theirs.next({"page": 2})))
    assert {"page": 2} == Checkpoints(store).get("rollup", "2026-10")["data"]


def test_a_checkpoint_of_another_can_be_left_alone(engine):
    """
    ``take_over=False`` refuses what belongs to another instance, and takes what is one's own.
    """
    first, other = Context("w1"), Context("w2")
    engine.run(first, load(first))
    with pytest.raises(CheckpointFencedError, match="belongs to workflow 'w1'"):
        engine.run(other, load(other, take_over=False))
    assert 2 == engine.run(first, load(first, take_over=False)).epoch


def test_a_save_delivered_twice_is_one(engine, store):
    """
    A late duplicate of a save, also after the next one, changes nothing; a number is never used twice.
    """
    ctx, sent = Context("w1"), []
    engine.before = lambda name, value: sent.append((name, value))
    cp = engine.run(ctx, load(ctx))
    first = cp.next({"page": 1})
    engine.run(ctx, save_checkpoint(ctx, first))
    save = sent[-1]
    engine.run(ctx, save_checkpoint(ctx, first.next({"page": 2})))
    again = engine.runtime.activities[save[0]](engine.activity("w1"), save[1])
    assert 1 == again["seq"]
    assert {"page": 2} == Checkpoints(store).get("rollup", "2026-10")["data"]
    with pytest.raises(CheckpointFencedError, match="does not follow"):
        engine.run(ctx, save_checkpoint(ctx, first))


def test_old_data_are_migrated_step_by_step(engine, store):
    """
    From the version they were saved in to that of the code; stored so by the next save.
    """
    ctx = Context("w1")
    engine.run(ctx, load(ctx))
    steps = {1: lambda data: {"at": data["page"]}, 2: lambda data: {**data, "sum": 0}}
    cp = engine.run(ctx, load(ctx, version=3, migrate=steps))
    assert {"at": 0, "sum": 0} == cp.data
    assert 1 == Checkpoints(store).get("rollup", "2026-10")["version"]
    engine.run(ctx, save_checkpoint(ctx, cp.next(cp.data)))
    assert 3 == Checkpoints(store).get("rollup", "2026-10")["version"]
    with pytest.raises(ValueError, match="version 3, this code knows 2"):
        engine.run(ctx, load(ctx, version=2))
    with pytest.raises(ValueError, match="no step from 3 to 4"):
        engine.run(ctx, load(ctx, version=4))


def test_without_a_default_there_must_be_one(engine):
    """
    The error names the checkpoint, and nothing is made.
    """
    ctx = Context("w1")
    with pytest.raises(NotFoundError, match="no checkpoint 'rollup' of 'x'"):
        engine.run(ctx, load_checkpoint(ctx, "rollup", "x"))


def test_a_run_continues_as_new_after_so_many_saves(engine, kit, store):
    """
    With its own input, and nothing behind it runs; the next run goes on from the checkpoint.
    """
    rounds = []

    @kit.workflow(name="pages")
    def pages(ctx, inp):
        cp = yield from load_checkpoint(ctx, "pages", "a/b", default={"page": 0})
        while cp.data["page"] < 7:
            rounds.append((ctx.instance_id, cp.data["page"]))
            cp = cp.next({"page": cp.data["page"] + 1})
            yield from continue_with(ctx, cp, every=3)
        return cp.data["page"]

    inp, results, history = {"n": 5}, [], []
    while inp is not None:
        ctx = Context("w1")
        results.append(engine.run(ctx, engine.runtime.workflows["pages"](ctx, inp)))
        inp = ctx.continued[0] if ctx.continued else None
        history.append(inp)
    assert [None, None, 7] == results
    assert [{"n": 5}, {"n": 5}, None] == [each and each["input"] for each in history]
    assert list(range(7)) == [page for _, page in rounds]
    assert ["a/b"] == Checkpoints(store).list("pages")


def test_a_superseded_run_does_not_take_it_back(engine, kit, store):
    """
    Neither when it loads again nor when it continues as new; its successor goes on.
    """
    ends = []

    @kit.workflow(name="steps")
    def steps(ctx, inp):
        try:
            cp = yield from load(ctx)
            yield from continue_with(ctx, cp.next({"page": cp.data["page"] + 1}), every=1)
        except CheckpointFencedError as fenced:
            ends.append(str(fenced))

    old, new, later = Context("w1"), Context("w2"), Context("w1")
    engine.run(old, engine.runtime.workflows["steps"](old, None))
    theirs = engine.run(new, load(new))
    engine.run(later, engine.runtime.workflows["steps"](later, old.continued[0]))
    assert ([], 1) == (later.continued, len(ends))
    assert "taken over by workflow 'w2' (epoch 2)" in ends[0]
    with pytest.raises(CheckpointFencedError, match="w2"):
        engine.run(later, load(later))
    engine.run(new, save_checkpoint(new, theirs.next({"page": 9})))
    record = Checkpoints(store).get("rollup", "2026-10")
    assert ({"page": 9}, "w2", 2) == (record["data"], record["owner"], record["epoch"])


def test_a_run_from_before_a_drop_is_refused(engine, store):
    """
    Though the epochs begin again and its numbers would fit.
    """
    old, new = Context("w1"), Context("w1")
    mine = engine.run(old, load(old))
    Checkpoints(store).drop("rollup", "2026-10")
    theirs = engine.run(new, load(new))
    assert (1, 0) == (mine.epoch, mine.seq) == (theirs.epoch, theirs.seq)
    with pytest.raises(CheckpointFencedError, match="taken over"):
        engine.run(old, save_checkpoint(old, mine.next({"page": 1})))
    engine.run(new, save_checkpoint(new, theirs.next({"page": 2})))
    assert {"page": 2} == Checkpoints(store).get("rollup", "2026-10")["data"]


def test_code_that_cannot_read_it_takes_nothing_over(engine, store):
    """
    Older code, and newer code without the step, leave the checkpoint to the run that has it.
    """
    own, old, new = Context("w1"), Context("w2"), Context("w3")
    mine = engine.run(own, load(own, version=2))
    for ctx, version, text in ((old, 1, "version 2, this code knows 1"), (new, 4, "no step from 3 to 4")):
        with pytest.raises(CheckpointVersionError, match=text):
            engine.run(ctx, load(ctx, version=version))
    assert 1 == engine.run(own, save_checkpoint(own, mine.next({"page": 1}))).seq


def test_numbers_may_be_left_out(engine, store):
    """
    A job need not save every step; what it saves counts on.
    """
    ctx = Context("w1")
    cp = engine.run(ctx, load(ctx))
    third = cp.next({"page": 1}).next({"page": 2}).next({"page": 3})
    assert 3 == engine.run(ctx, save_checkpoint(ctx, third)).seq
    record = Checkpoints(store).get("rollup", "2026-10")
    assert ({"page": 3}, 3) == (record["data"], record["seq"])


def test_data_that_could_not_be_loaded_are_not_saved(engine, store):
    """
    As much as a load can return goes in; more is refused with the cure, and the checkpoint stays.
    """
    ctx = Context("w1")
    cp = engine.run(ctx, load(ctx))
    most = {"page": "x" * (LIMIT - 11)}
    engine.run(ctx, save_checkpoint(ctx, cp.next(most)))
    assert most == engine.run(Context("w2"), load(Context("w2"))).data
    with pytest.raises(ValueTooLargeError, match=r"60001 bytes.*keys of its own"):
        engine.run(ctx, save_checkpoint(ctx, cp.next({"page": "x" * (LIMIT - 10)})))


def test_without_a_kit_nothing_continues_as_new(engine):
    """
    The end of such a run would be an error to the SDK.
    """
    ctx = Context("w1")
    cp = engine.run(ctx, load(ctx))
    with pytest.raises(RuntimeError, match=r"WorkflowKit\.workflow"):
        engine.run(ctx, continue_with(ctx, cp.next({})))


def test_a_dropped_checkpoint_cannot_be_saved(engine, store):
    """
    It is gone from the list; a run that still has it is refused.
    """
    ctx = Context("w1")
    cp = engine.run(ctx, load(ctx))
    outside = Checkpoints(store)
    assert ["2026-10"] == outside.list("rollup")
    assert outside.drop("rollup", "2026-10")
    assert not outside.drop("rollup", "2026-10")
    assert (None, []) == (outside.get("rollup", "2026-10"), outside.list("rollup"))
    with pytest.raises(CheckpointFencedError, match="was dropped"):
        engine.run(ctx, save_checkpoint(ctx, cp.next({"page": 1})))


def test_names_and_subjects_do_not_run_together(engine, store):
    """
    Wherever a dash, a slash or a colon stands, another name or subject is another checkpoint.
    """
    both = [("a-b", "c"), ("a", "b-c"), ("a:b", "c"), ("a", "b:c"), ("a/b", "c"), ("a", "b/c"), ("a", "b||c")]
    for name, subject in both:
        ctx = Context("w1")
        cp = engine.run(ctx, load_checkpoint(ctx, name, subject, default=[name, subject]))
        assert ([name, subject], 1) == (cp.data, cp.epoch)
    assert ["b-c", "b/c", "b:c", "b||c"] == Checkpoints(store).list("a")
