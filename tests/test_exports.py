"""
What the packages export is what their ``__all__`` says, sorted, documented and typed.
"""

from __future__ import annotations

import importlib
import inspect
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import toolkit
from toolkit import errors

ROOT = Path(__file__).resolve().parent.parent
ERRORS = sorted(
    name
    for name, found in vars(errors).items()
    if inspect.isclass(found) and issubclass(found, errors.StateError)
)


def tree_in_docstring() -> dict[str, str]:
    """
    Read the tree that the docstring draws: each class and its parent.
    """
    parents: dict[str, str] = {}
    trail: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        drawn = re.match(r" {4}([│ ├└─]*)([A-Z]\w+)", line)
        if drawn is None:
            continue
        depth = len(drawn[1]) // 4
        trail[depth:] = [drawn[2]]
        parents[drawn[2]] = trail[depth - 1] if depth else "Exception"
    return parents


def test_all_is_complete():
    """
    ``__all__`` names nothing twice (ruff keeps it sorted) and every name in it resolves.
    """
    assert sorted(set(toolkit.__all__)) == sorted(toolkit.__all__)
    assert [name for name in toolkit.__all__ if not hasattr(toolkit, name)] == []


def test_nothing_public_is_left_out():
    """
    What is importable from ``toolkit`` without an underscore is in ``__all__``, submodules aside.
    """
    public = {name for name, found in vars(toolkit).items() if name[0] != "_" and not inspect.ismodule(found)}
    assert sorted(public - set(toolkit.__all__)) == []


def test_every_error_is_exported():
    """
    Whoever can meet an error can import it from ``toolkit``.
    """
    assert [name for name in ERRORS if name not in toolkit.__all__] == []


def test_docstring_draws_the_real_tree():
    """
    The tree in the docstring of ``toolkit.errors`` has exactly the classes and parents of the module.
    """
    real = {name: getattr(errors, name).__mro__[1].__name__ for name in ERRORS}
    assert tree_in_docstring() == real


@pytest.mark.parametrize("name", ERRORS)
def test_errors_survive_pickling(name: str):
    """
    An error that crossed a process still has its message and its attributes.
    """
    made = (
        errors.RecordedError("ValueError", "m")
        if name == "RecordedError"
        else getattr(errors, name)("message")
    )
    made.add_note("a note")
    made.extra = "kept"
    back = pickle.loads(pickle.dumps(made))  # noqa: S301
    assert (type(back), str(back), vars(back)) == (type(made), str(made), vars(made))


def test_every_public_name_is_type_tested():
    """
    Each public name is used in the typed-API test, so that no signature changes unseen.
    """
    text = (ROOT / "tests/typing/api.py").read_text(encoding="utf-8")
    unused = [name for name in toolkit.__all__ if not re.search(rf"\b{name}\b", text)]
    assert unused == []


def test_every_public_name_is_in_the_reference():
    """
    Each public name stands in the reference: by name on its pages, or as a member of a module shown whole there.
    """
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs/reference").glob("*.md"))
    whole = [
        importlib.import_module(name)
        for name in re.findall(r"^::: (toolkit[\w.]*\.errors)$", pages, re.MULTILINE)
    ]
    missing = [
        name
        for name in toolkit.__all__
        if not re.search(rf"\b{name}\b", pages) and not any(hasattr(module, name) for module in whole)
    ]
    assert missing == []


@pytest.mark.parametrize("name", ["Counter", "Dapr", "StateStore", "Transaction", "TypedStateStore"])
def test_colours_have_the_same_names(name: str):
    """
    What a user calls in one colour is there in the other, with the same arguments in the same order.
    """
    inner = {"commit_shielded", "host"}
    sync, other = getattr(toolkit, name), getattr(toolkit, f"Async{name}")
    names = {found for found in dir(sync) if found[0] != "_"}
    assert names == {found for found in dir(other) if found[0] != "_"} - inner
    for found in names:
        if inspect.isfunction(method := getattr(sync, found)):
            given = [(part.name, part.kind, part.default) for part in parameters(method)]
            assert given == [
                (part.name, part.kind, part.default) for part in parameters(getattr(other, found))
            ]


def parameters(method: Callable[..., object]) -> list[inspect.Parameter]:
    return list(inspect.signature(method).parameters.values())
