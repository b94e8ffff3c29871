"""
Dapr resource files: built from Python, and checked before a sidecar reads them.

daprd reports a broken component file in the middle of its log, by the file alone, and a missing directory not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

from toolkit.sidecar.errors import ComponentFileError, SidecarError

try:
    import yaml
except ImportError as error:  # pragma: no cover - a matter of the installation
    raise ImportError("toolkit.sidecar needs PyYAML: pip install 'dapr-occ[cli]'") from error

SUFFIXES: Final = (".yaml", ".yml")
_NEEDS_SPEC: Final = frozenset({"Component", "Configuration", "Resiliency"})

Resource: TypeAlias = Mapping[str, Any]


def component(
    name: str,
    type: str,
    *,
    version: str = "v1",
    metadata: Mapping[str, object] | None = None,
    scopes: Sequence[str] = (),
) -> dict[str, Any]:
    """
    One Dapr component as the dictionary that its YAML file would hold.

    ``metadata`` values become strings, as Dapr wants them; ``scopes`` limits the component to these app ids.
    """
    pairs = [{"name": key, "value": _text(value)} for key, value in (metadata or {}).items()]
    resource: dict[str, Any] = {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Component",
        "metadata": {"name": name},
        "spec": {"type": type, "version": version, "metadata": pairs},
    }
    if scopes:
        resource["scopes"] = list(scopes)
    return resource


def _text(value: object) -> str:
    # Dapr spells truth in lower case.
    return str(value).lower() if isinstance(value, bool) else str(value)


def default_component(directory: Path) -> dict[str, Any]:
    """
    The store of a sidecar that was given no resources: embedded SQLite, named ``statestore``, fit for actors.
    """
    settings = {
        "connectionString": f"file:{directory / 'state.db'}",
        "actorStateStore": True,
        "busyTimeout": "5s",
    }
    return component("statestore", "state.sqlite", metadata=settings)


def write_resources(resources: Sequence[Resource], directory: Path) -> Path:
    """
    Write each resource into a file of its own, readable by this account alone: metadata can hold passwords.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    for index, resource in enumerate(resources):
        path = directory / f"{index:02d}-{_name(resource)}.yaml"
        path.write_text(yaml.safe_dump(dict(resource), sort_keys=False), encoding="utf-8")
    return directory


def _name(resource: Resource) -> str:
    found = resource.get("metadata")
    name = cast("Mapping[str, object]", found).get("name") if isinstance(found, Mapping) else None
    if not isinstance(name, str) or not name:
        raise SidecarError(
            f"a resource needs metadata.name, this one has none: kind={resource.get('kind')!r}"
        )
    return "".join(char if char.isalnum() or char in "-." else "-" for char in name)


@dataclass(frozen=True, slots=True)
class Checked:
    """
    Resource paths that daprd will read, and what was found in them.

    Attributes:
        directories: To be given to daprd as they are.
        resources: What the single files hold, to be written into a directory of their own.
    """

    directories: tuple[Path, ...]
    resources: tuple[Resource, ...]


def check(paths: Sequence[Path]) -> Checked:
    """
    Read every resource file of these directories and files; the first problem is a ``ComponentFileError``.
    """
    directories = tuple(path for path in paths if path.is_dir())
    single = tuple(path for path in paths if not path.is_dir())
    inside = [file for directory in directories for file in _files(directory)]
    found = {file: read_resources(file) for file in (*inside, *single)}
    _check_names(found)
    if paths and not any(
        resource.get("kind") == "Component" for all_of in found.values() for resource in all_of
    ):
        raise ComponentFileError(
            paths[0], 0, "holds no Dapr component (*.yaml or *.yml with kind: Component)"
        )
    return Checked(directories, tuple(resource for file in single for resource in found[file]))


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.suffix in SUFFIXES and path.is_file())


def read_resources(path: Path) -> tuple[Resource, ...]:
    """
    Every resource of one file, checked as far as daprd would refuse it without a word.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ComponentFileError(path, 0, "there is no such file or directory") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ComponentFileError(path, 0, f"cannot be read: {error}") from error
    return tuple(resource for _, resource in _documents(path, text))


def _documents(path: Path, text: str) -> Iterator[tuple[int, Resource]]:
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_node():
            node = cast("yaml.Node", loader.get_node())
            line = node.start_mark.line + 1
            value: object = loader.construct_document(node)  # pyright: ignore[reportUnknownMemberType]
            if value is not None:
                yield line, _checked(path, line, value)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = "is not valid YAML: " + " ".join(part for part in (error.context, error.problem) if part)
        raise ComponentFileError(path, mark.line + 1 if mark else 0, reason) from error
    except yaml.YAMLError as error:
        raise ComponentFileError(path, 0, f"is not valid YAML: {error}") from error
    finally:
        loader.dispose()


def _checked(path: Path, line: int, value: object) -> Resource:
    if not isinstance(value, dict):
        raise ComponentFileError(
            path, line, f"holds a {type(value).__name__} where a Dapr resource is expected"
        )
    resource = cast("dict[str, Any]", value)
    kind = resource.get("kind")
    if not isinstance(kind, str):
        raise ComponentFileError(path, line, "has no kind (for a store: kind: Component)")
    if not str(resource.get("apiVersion", "")).startswith("dapr.io/"):
        raise ComponentFileError(path, line, "has no apiVersion of Dapr (apiVersion: dapr.io/v1alpha1)")
    metadata = resource.get("metadata")
    if not isinstance(metadata, dict) or not cast("dict[str, Any]", metadata).get("name"):
        raise ComponentFileError(path, line, "has no metadata.name")
    spec = resource.get("spec")
    if kind in _NEEDS_SPEC and not isinstance(spec, dict):
        raise ComponentFileError(path, line, f"has no spec, which a {kind} needs")
    if kind == "Component":
        _check_component(path, line, cast("dict[str, Any]", spec))
    return resource


def _check_component(path: Path, line: int, spec: Mapping[str, object]) -> None:
    if not isinstance(spec.get("type"), str):
        raise ComponentFileError(path, line, "has no spec.type (for example state.redis)")
    if not isinstance(spec.get("version"), str):
        raise ComponentFileError(path, line, "has no spec.version (for example v1)")
    entries: object = spec.get("metadata") or []
    if not isinstance(entries, list):
        raise ComponentFileError(path, line, "has a spec.metadata that is not a list of name and value pairs")
    for entry in cast("list[object]", entries):
        if not isinstance(entry, dict) or "name" not in entry:
            raise ComponentFileError(path, line, "has an entry in spec.metadata without a name")


def _check_names(found: Mapping[Path, Sequence[Resource]]) -> None:
    """
    Refuse two components of one name: daprd keeps one of them and drops the other.

    Components with scopes are left out: the same name for another app is how one directory serves several apps.
    """
    seen: dict[str, Path] = {}
    for path, resources in found.items():
        for resource in resources:
            if resource.get("kind") != "Component" or resource.get("scopes"):
                continue
            name = str(resource["metadata"]["name"])
            if name in seen:
                other = seen[name].name
                raise ComponentFileError(
                    path, 0, f"names its component {name!r}, as {other} does: Dapr keeps one"
                )
            seen[name] = path
