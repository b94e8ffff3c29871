"""
What a ready workflow is: what it registers, what it starts for an input, and what must hold afterwards.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import resources
from typing import Any, TypeVar

import msgspec

from toolkit.errors import AlreadyExistsError
from toolkit.store import StateStore
from workflows.kit import WorkflowKit


class InputFileError(ValueError):
    """
    The input file is not what the workflow takes; the message says where and what.
    """


T = TypeVar("T")


def read_input(text: str, type: type[T], what: str, shape: str) -> T:
    """
    The text of an input file as a value of this type.

    Args:
        text: JSON.
        type: What it must be.
        what: Names that for the error.
        shape: An example for the error.

    Raises:
        InputFileError: It is not; says what is wrong and how it should look.
    """
    try:
        return msgspec.json.decode(text.encode(), type=type)
    except msgspec.MsgspecError as error:
        raise InputFileError(f"not {what} ({error}); it looks like this: {shape}") from None


def refuse_twice(ids: Iterable[str], what: str) -> None:
    """
    Refuse an input in which an id is used twice, since operation ids are made of them.

    Raises:
        InputFileError: Names the first one.
    """
    for name, count in Counter(ids).items():
        if count > 1:
            raise InputFileError(f"the {what} {name!r} is used twice: each needs one of its own")


def create_missing(store: StateStore, values: Mapping[str, Any]) -> None:
    """
    Create the keys that are not there; the others are from an earlier run of the same input.
    """
    for key, value in values.items():
        try:
            store.create(key, value)
        except AlreadyExistsError:
            continue


@dataclass(frozen=True, slots=True)
class Job:
    """
    One workflow instance to start.

    Attributes:
        workflow: The name it is registered under.
        instance_id: Its id.
        input: JSON types.
        once: Start it through ``start_once``: the same id never runs twice.
    """

    workflow: str
    instance_id: str
    input: Any
    once: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What to do with one input.

    Attributes:
        jobs: The instances to start.
        prepare: What to do first; may be repeated.
        check: Given the outputs of the instances, a report; its member ``ok`` says whether the invariant holds.
    """

    jobs: tuple[Job, ...]
    prepare: Callable[[StateStore], None]
    check: Callable[[StateStore, Sequence[Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ReadyWorkflow:
    """
    A workflow of the library.

    Attributes:
        name: Its name on the command line.
        summary: One sentence.
        sample: The file of sample data that comes with it.
        register: Puts its workflows and effects on a kit.
        plan: Turns the text of an input file into a plan; raises ``InputFileError``.
        hosting: What else a worker serves while it runs, given the name of the store and the address of the sidecar.
    """

    name: str
    summary: str
    sample: str
    register: Callable[[WorkflowKit], None]
    plan: Callable[[str], Plan]
    hosting: Callable[[str, str | None], AbstractContextManager[None]] = lambda _store, _address: (
        contextlib.nullcontext()
    )

    def sample_text(self) -> str:
        """
        The sample data.
        """
        return resources.files("workflows.library").joinpath("data", self.sample).read_text(encoding="utf-8")
