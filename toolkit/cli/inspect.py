"""
``occ inspect``, ``occ strip``, ``occ repair``, ``occ sweep``: single keys, looked at and mended.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import typer

from toolkit.cli._agree import agreed
from toolkit.cli._options import FAILED, FINE, USAGE, Address, AsJson, Store
from toolkit.errors import InvalidKeyError, SidecarUnavailableError, StateError, UnknownStoreError

if TYPE_CHECKING:
    from toolkit.cli._upkeep import Plan, Planner, Shelf


INSPECT_EPILOG: Final = (
    "Example: occ inspect stock-7 --store statestore. Exit code 0: a value, or a tombstone; 1: nothing is there, or it "
    "cannot be read; 2: no sidecar or no such store."
)
STRIP_EPILOG: Final = (
    "Example: occ strip user-1 user-2 --yes. Exit code 0: every key is plain now; 1: one was refused; 2: no sidecar or "
    "no such store, or you said no."
)
REPAIR_EPILOG: Final = (
    "Example: occ repair user-1, or occ repair --from-log conflicts.jsonl. Exit code 0: all is well; 1: a key cannot be repaired (yet); 2: no sidecar or no such "
    "store, or you said no."
)
SWEEP_EPILOG: Final = (
    "Example: occ sweep cart-1 cart-2 --life 3600. Exit code 0: done, kept keys included; 1: a key cannot be read; 2: "
    "no sidecar or no such store."
)

_Keys = Annotated[
    list[str],
    typer.Argument(metavar="KEY...", help="Keys, as the application calls them: without its app id."),
]
_Key = Annotated[
    str, typer.Argument(metavar="KEY", help="The key, as the application calls it: without its app id.")
]
_Yes = Annotated[
    bool, typer.Option("--yes", "-y", help="Do not ask; nor does it ask where nobody can answer.")
]
_NO_TROUBLE: Final = "the log names no key in trouble"
# The longest life a tombstone can need: the default op_ttl of a store.
_WEEK: Final = 604800.0


def inspect(
    key: _Key,
    *,
    store: Store = "statestore",
    address: Address = None,
    op_id: Annotated[
        str | None,
        typer.Option("--op-id", metavar="ID", help="Say whether this operation is recorded on the key."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """
    Show a key as it is stored: its value and everything its stamp says.
    """
    from toolkit.cli._portrait import portrait, show

    with _opened("inspect", store, address) as shelf:
        found = portrait(shelf, key, op_id)
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        show(found)
    raise typer.Exit(FAILED if found["state"] in ("missing", "corrupt", "not JSON") else FINE)


def strip(keys: _Keys, *, store: Store = "statestore", address: Address = None, yes: _Yes = False) -> None:
    """
    Leave the toolkit: drop the stamps, so that plain values remain.

    Operation ids go with the stamps, so a repeat of an old operation would be applied again. Stop the programs that
    write these keys through the toolkit first. Tombstones and expired values are removed.
    """
    from toolkit.cli._upkeep import plan_strip

    question = "Drop the stamps, with all operation ids in them?"
    with _opened("strip", store, address) as shelf:
        raise typer.Exit(_carry_out("strip", shelf, keys, plan_strip, None if yes else question))


def repair(
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY...", help="Keys, as the application calls them: without its app id."),
    ] = None,
    *,
    from_log: Annotated[
        list[str] | None,
        typer.Option(
            "--from-log",
            metavar="FILE",
            help="Take the keys that a conflict log names as unclear, unreadable or held by a transaction, and those of its "
            "transactions that are not finished; may be repeated.",
        ),
    ] = None,
    store: Store = "statestore",
    address: Address = None,
    yes: _Yes = False,
) -> None:
    """
    Mend keys: a corrupt stamp is replaced, a transaction whose process died is decided and finished.

    The visible members of a value with a corrupt stamp stay as they are. A transaction that has not committed by the end
    of its lease is aborted; one that has is carried out on all its keys.
    """
    from toolkit.cli._settle import keys_in_log
    from toolkit.cli._upkeep import is_unfinished, plan_repair
    from toolkit.review.reading import InputError

    wanted = list(keys or ())
    try:
        troubled, touched = keys_in_log(from_log or (), store)
    except InputError as error:
        _say("repair", str(error))
        raise typer.Exit(USAGE) from None
    if not wanted and not troubled and not touched:
        _say("repair", _NO_TROUBLE if from_log else "name a KEY, or a log with --from-log FILE")
        raise typer.Exit(FINE if from_log else USAGE)
    question = "Mend them? What a corrupt stamp knew (operation ids, expiry) cannot be read and is lost."
    with _opened("repair", store, address) as shelf:
        wanted += [key for key in troubled if not shelf.read(key).missing]
        # Of the many keys of a log's transactions only those with something left on them are worth a word.
        wanted += [key for key in touched if is_unfinished(shelf.read(key), key)]
        if not wanted:
            _say("repair", _NO_TROUBLE)
            raise typer.Exit(FINE)
        raise typer.Exit(_carry_out("repair", shelf, wanted, plan_repair, None if yes else question))


def sweep(
    keys: _Keys,
    *,
    store: Store = "statestore",
    address: Address = None,
    life: Annotated[
        float,
        typer.Option(
            "--life",
            metavar="SECONDS",
            min=3600,
            help="How long tombstones, expired values and finished records are kept: the op_ttl of your stores. Where "
            "no transaction writes these keys their op_window will do.",
        ),
    ] = _WEEK,
) -> None:
    """
    Remove tombstones and expired values whose life is over, on stores that do not do so themselves.

    The toolkit never deletes a row for real, since a late copy of an old write could bring it back. Most stores drop
    them by their own TTL; MySQL, MongoDB, DynamoDB, SQL Server, Oracle and stores without TTL need this command.
    """
    from toolkit.cli._upkeep import plan_sweep

    with _opened("sweep", store, address) as shelf:
        raise typer.Exit(_carry_out("sweep", shelf, keys, partial(plan_sweep, life=life), None))


@contextmanager
def _opened(command: str, store: str, address: str | None) -> Generator[Shelf]:
    """
    The store, with what can go wrong on the way as a line and an exit code.
    """
    from toolkit.cli._upkeep import open_shelf

    try:
        with open_shelf(store, address) as shelf:
            yield shelf
    except (ValueError, SidecarUnavailableError, UnknownStoreError, InvalidKeyError) as error:
        _say(command, str(error))
        raise typer.Exit(USAGE) from None
    except StateError as error:
        _say(command, str(error))
        raise typer.Exit(FAILED) from None


def _say(command: str, line: str) -> None:
    from toolkit.cli._show import clean

    typer.echo(f"occ {command}: {clean(line)}", err=True)


def _carry_out(command: str, shelf: Shelf, keys: list[str], planner: Planner, question: str | None) -> int:
    """
    Tell what would be done, ask where there is something to ask, and do it.
    """
    from toolkit.cli._show import clean
    from toolkit.cli._upkeep import carry_out

    wanted: list[str] = list(dict.fromkeys(keys))
    plans = {key: planner(key, shelf.read(key), shelf.profile) for key in wanted}
    open_ = [key for key in wanted if plans[key].write is not None or plans[key].settles]
    if question is not None and open_:
        for key in wanted:
            typer.echo(f"{clean(key)} {clean(plans[key].says)}", err=True)
        if not agreed(question):
            _say(command, "nothing was changed")
            return USAGE
    refused = False
    for key in wanted:
        plan = plans[key]
        if plan.settles:
            plan = _settle(shelf, key)
        elif plan.write is not None:
            plan = carry_out(shelf, key, planner)
        refused = refused or plan.refused
        typer.echo(f"{clean(key)} {clean(plan.says)}")
    return FAILED if refused else FINE


def _settle(shelf: Shelf, key: str) -> Plan:
    from toolkit.cli._settle import settle

    return settle(shelf, key)
