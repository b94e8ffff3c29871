"""
Recorded histories replayed over changed code: the first step that differs is named.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from toolkit.testing import NonDeterminismError, WorkflowHistory, WorkflowSidecar
from workflows import WorkflowKit, call_effect

pytest_plugins = ["toolkit.testing.pytest_workflows"]


def add(tx, given):
    value = tx.get(given["key"], {"n": 0})["n"] + given["amount"]
    tx.put(given["key"], {"n": value})
    return value


@pytest.fixture
def recorded(wf_sidecar, wf_serve, tmp_path):
    """
    A history in a file, of two additions and a pause between them.
    """
    kit = WorkflowKit(wf_sidecar.runtime(), "test", port=wf_sidecar.state)
    kit.effect(name="add")(add)

    @kit.workflow(name="paused")
    def paused(ctx, _):
        yield from call_effect(ctx, "add", input={"key": "a", "amount": 1})
        yield ctx.create_timer(timedelta(days=1))
        return (yield from call_effect(ctx, "add", input={"key": "a", "amount": 2}))

    wf_serve(kit)
    assert 3 == wf_sidecar.run("paused", instance_id="w1")
    path = tmp_path / "w1.json"
    wf_sidecar.history("w1").save(path)
    return path


CHANGED = {
    "same": (["add", None, "add"], None),
    "renamed": (
        ["add", None, "audit"],
        "turn 3, step 3: activity 'add' was recorded, the code now asks for activity 'audit'",
    ),
    "inserted": (
        ["add", "audit", None, "add"],
        "turn 2, step 2: timer was recorded, the code now asks for activity 'audit'",
    ),
    "ended": (
        ["add", None],
        "turn 3, step 3: activity 'add' was recorded, the code now asks for end as 'COMPLETED'",
    ),
    "longer": (
        ["add", None, "add", "add"],
        "turn 4, step 4: end as 'COMPLETED' was recorded, the code now asks for activity",
    ),
}


@pytest.mark.parametrize("change", CHANGED)
def test_changed_code_fails_on_an_old_history(change, recorded):
    """
    The error names the first step that differs; the SDK's own check would let two of these pass.
    """
    steps, message = CHANGED[change]
    with WorkflowSidecar() as sidecar:
        kit = WorkflowKit(sidecar.runtime(), "test", port=sidecar.state)

        @kit.workflow(name="paused")
        def paused(ctx, _):
            for step in steps:
                if step is None:
                    yield ctx.create_timer(timedelta(days=1))
                else:
                    yield from call_effect(ctx, step, input={})

        with kit:
            if message is None:
                sidecar.replay(WorkflowHistory.load(recorded))
                with pytest.raises(NonDeterminismError, match="another input or result"):
                    sidecar.replay(WorkflowHistory.load(recorded), payloads=True)
                return
            with pytest.raises(NonDeterminismError) as caught:
                sidecar.replay(WorkflowHistory.load(recorded))
    assert message in str(caught.value)
    assert ("w1", int(message[5]), int(message[13])) == (
        caught.value.instance_id,
        caught.value.turn,
        caught.value.step,
    )


def test_a_guarded_change_passes(recorded):
    """
    With ``is_patched`` old instances take the old way.
    """
    with WorkflowSidecar() as sidecar:
        kit = WorkflowKit(sidecar.runtime(), "test", port=sidecar.state)

        @kit.workflow(name="paused")
        def paused(ctx, _):
            yield from call_effect(ctx, "add", input={"key": "a", "amount": 1})
            if ctx.is_patched("audited"):
                yield from call_effect(ctx, "audit", input={})
            yield ctx.create_timer(timedelta(days=1))
            return (yield from call_effect(ctx, "add", input={"key": "a", "amount": 2}))

        with kit:
            sidecar.replay(WorkflowHistory.load(recorded), payloads=True)


def test_a_history_of_code_that_is_not_there(recorded):
    """
    The error says that the workflow is not registered.
    """
    with WorkflowSidecar() as sidecar:
        kit = WorkflowKit(sidecar.runtime(), "test", port=sidecar.state)
        with kit, pytest.raises(NonDeterminismError, match="was not registered"):
            sidecar.replay(WorkflowHistory.load(recorded))


def test_a_file_that_is_no_history(tmp_path):
    """
    One error, with the path and the reason.
    """
    path = tmp_path / "wrong.json"
    for text in ("", "[]", '{"format": 9}', '{"format": 1, "instance_id": "w", "events": [{"no": 1}]}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="is not a saved workflow history"):
            WorkflowHistory.load(path)
