"""
``occ doctor``: does this store keep what its profile says?
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

from toolkit.cli._agree import agreed
from toolkit.cli._options import FAILED, FINE, USAGE

if TYPE_CHECKING:
    from rich.console import Console

    from toolkit.doctor import About, Report, Wire


_STYLES: Final = {"worse": "bold red", "better": "green", "differs": "yellow", "new": "cyan"}

EPILOG: Final = (
    "Example: occ doctor --store statestore. Exit code 0: the stores keep what their profiles say; 1: one is worse, or "
    "unknown; 2: nothing was examined."
)


def doctor(
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="NAME", help="The component; all that are loaded without it."),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes", "-y", help="Do not ask before writing scratch keys; nor where nobody can answer."
        ),
    ] = False,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="FILE", help="Write a profile for a store of an unknown type."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--address", help="The sidecar; DAPR_GRPC_ENDPOINT or DAPR_GRPC_PORT without it."),
    ] = None,
    type_: Annotated[
        str | None,
        typer.Option(
            "--type", help="The component's type, where the sidecar's metadata API is switched off."
        ),
    ] = None,
    version: Annotated[
        str,
        typer.Option(
            "--version", help="The component's version, with --type; the type's default without it."
        ),
    ] = "",
) -> None:
    """
    Probe a live store through its sidecar, on scratch keys that are removed again.

    It writes a few hundred small keys that begin with _occ-doctor-, from up to eight threads at once, for about ten
    seconds a store, and compares what it finds with the profile the toolkit works by.
    """
    import grpc
    from rich.console import Console

    from toolkit.dapr.address import Token, address_of
    from toolkit.dapr.channel import sync_channel
    from toolkit.doctor import GrpcWire

    errors = Console(stderr=True, emoji=False)
    if save is not None and store is None:
        _stop(errors, "--save writes the profile of one store: name it with --store NAME")
    try:
        target, token = address_of(address), Token().metadata()
    except ValueError as error:
        _stop(errors, str(error))
    with sync_channel(target) as channel:

        def wire(name: str) -> GrpcWire:
            return GrpcWire(channel, name, token=token)

        try:
            chosen = _choose(wire, store, type_, version, errors)
            if save is not None:
                _check_unknown(chosen[0][1], errors)
            _ask(errors, chosen, yes=yes)
            reports = [_examine(wire(name), name, about, errors) for name, about in chosen]
        except grpc.RpcError as error:
            call: Any = error
            _stop(
                errors,
                f"the sidecar at {target} did not answer ({call.code().name}: {call.details()}). Start the command "
                "under 'occ run -- occ doctor', or give --address; if its metadata API is switched off, give --store "
                "and --type too.",
            )
    console = Console(emoji=False)
    if as_json:
        typer.echo(json.dumps({"stores": [report.to_json() for report in reports]}, indent=2))
    else:
        for report in reports:
            _show(console, report)
    if save is not None:
        _save(errors, reports[0], save)
    raise typer.Exit(FAILED if any(report.worse or not report.known for report in reports) else FINE)


def _stop(errors: Console, message: str) -> NoReturn:
    errors.print(f"occ doctor: {message}", style="red", highlight=False, markup=False)
    raise typer.Exit(USAGE)


def _choose(
    wire: Any, store: str | None, type_: str | None, version: str, errors: Console
) -> list[tuple[str, About]]:
    """
    Find the stores to examine and what the sidecar says of each.
    """
    from toolkit.doctor import About
    from toolkit.stores import find

    if store is not None and type_ is not None:
        profile = find(f"state.{type_.removeprefix('state.')}", version)
        return [(store, About("unknown", profile.type, profile.version, None, (store,), ()))]
    first = wire(store or "").about()
    if not first.loaded:
        _stop(
            errors,
            "the sidecar has loaded no state store for this app (a component's scopes may leave it out)",
        )
    if store is not None and store not in first.loaded:
        _stop(
            errors,
            f"the sidecar has loaded no state store named {store!r}, only {', '.join(first.loaded)}. A component "
            "whose scopes name other apps is not among them.",
        )
    names = first.loaded if store is None else (store,)
    return [(name, wire(name).about()) for name in names]


def _check_unknown(about: About, errors: Console) -> None:
    """
    Refuse to save over a profile of the table: one run's findings are no match for it.
    """
    from toolkit.stores import find, profiles

    profile = find(about.type, about.version)
    if (profile.type, profile.version) in profiles:
        _stop(errors, f"{profile.type} {profile.version} has a profile already; nothing was probed or saved")


def _ask(errors: Console, chosen: list[tuple[str, About]], *, yes: bool) -> None:
    """
    Ask before anything is written.
    """
    names = ", ".join(f"{name} ({about.type} {about.version})" for name, about in chosen)
    if not yes and not agreed(f"This writes and removes scratch keys named _occ-doctor-* in {names}. Go on?"):
        _stop(errors, "nothing was written")


def _examine(wire: Wire, name: str, about: About, errors: Console) -> Report:
    from toolkit.doctor import examine

    with errors.status(f"{name}: starting") as status:
        return examine(wire, name, about=about, progress=lambda probe: status.update(f"{name}: {probe}"))


def _show(console: Console, report: Report) -> None:
    """
    Print one report as a table, with the verdict in words under it.
    """
    from rich.box import SIMPLE
    from rich.table import Table

    from toolkit.doctor.facts import TITLES

    profile = report.profile
    table = Table(
        title=f"{report.name}: {profile.type} {profile.version}, daprd {report.about.runtime}",
        title_justify="left",
        box=SIMPLE,
    )
    for column in ("fact", "profile", "found", ""):
        table.add_column(column)
    for finding in report.findings:
        allowed = " or ".join(_word(value) for value in finding.expected) or "-"
        match = finding.match.value
        style = _STYLES.get(match, "")
        table.add_row(
            TITLES.get(finding.fact, finding.fact), allowed, _word(finding.found), match, style=style
        )
    console.print(table)
    for probe, reason in report.skipped.items():
        console.print(f"not probed: {probe}: {reason}", markup=False, highlight=False)
    for warning in report.warnings:
        console.print(f"note: {warning}", markup=False, highlight=False)
    for key in report.left:
        console.print(f"could not be removed: {key}", style="red", markup=False)
    console.print(str(report.paths), markup=False, highlight=False)
    console.print(_verdict(report), markup=False, highlight=False)
    console.print()


def _word(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _verdict(report: Report) -> str:
    profile = report.profile
    name = f"{profile.type} {profile.version}"
    if not report.known:
        return f"{name} has no profile; let 'occ doctor --store {report.name} --save FILE' write one."
    worse = len(report.worse)
    if worse:
        return f"{name} is worse than its profile in {worse} place{'s' * (worse > 1)}: do not write to it."
    if not profile.accepted:
        return f"{name} is as its profile says, and refused for protected writes: {' '.join(profile.reasons)}"
    return f"{name} keeps what its profile says (tier {profile.tier}). {' '.join(profile.cautions)}".rstrip()


def _save(errors: Console, report: Report, path: Path) -> None:
    """
    Write the profile derived from the findings.
    """
    from toolkit.doctor.derive import derive
    from toolkit.stores.saved import dumps

    if report.known:
        _stop(
            errors, f"{report.profile.type} {report.profile.version} has a profile already; nothing was saved"
        )
    profile = derive(report)
    try:
        path.write_text(dumps(profile), encoding="utf-8")
    except OSError as error:
        _stop(errors, f"{path} cannot be written: {error.strerror}")
    verdict = "accepted" if profile.accepted else f"refused: {' '.join(profile.reasons)}"
    errors.print(f"saved {path}: tier {profile.tier}, {verdict}", markup=False, highlight=False)
