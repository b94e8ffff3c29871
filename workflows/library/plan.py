"""
What a ready workflow is: what it registers, what it starts for an input, and what must hold afterwards.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import resources
from typing import Any

from toolkit.store import StateStore
from workflows.kit import WorkflowKit


class InputFileError(ValueError):
    """
    The input file is not what the workflow takes; the message says where and what.
    """


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
