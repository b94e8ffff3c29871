"""
The wheel, not the checkout, is what users get.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(*command: str | Path, cwd: Path, timeout: float = 90) -> str:
    """
    Run a command that must succeed and give what it printed.
    """
    ran = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False, timeout=timeout
    )
    assert ran.returncode == 0, f"{command}: {ran.stdout[-2000:]}{ran.stderr[-4000:]}"
    return ran.stdout


def clean_venv(where: Path) -> Path:
    """
    Make an empty virtual environment and give its interpreter.
    """
    venv.create(where, with_pip=False)
    return where / "bin" / "python"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    Build the wheel from the checkout, without a network.
    """
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    Install the wheel in a clean environment beside the dependencies of this one.
    """
    where = tmp_path_factory.mktemp("clean")
    interpreter = clean_venv(where)
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        interpreter,
        "install",
        "--no-index",
        "--no-deps",
        wheel,
        cwd=where,
    )
    (site,) = where.glob("lib/python*/site-packages")
    # A path file is not followed into the path files there, so the editable install of the checkout stays out of sight.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return interpreter


def test_wheel_holds_the_two_packages_and_nothing_else(wheel: Path):
    """
    The wheel has toolkit and workflows, both marked as typed, its licence, and no tests or tools.
    """
    names = zipfile.ZipFile(wheel).namelist()
    info = f"dapr_occ-{wheel.name.split('-')[1]}.dist-info"
    assert {name.split("/")[0] for name in names} == {"toolkit", "workflows", info}
    assert {"toolkit/py.typed", "workflows/py.typed", f"{info}/licenses/LICENSE"} <= set(names)


def test_wheel_has_every_module_of_the_checkout(wheel: Path):
    """
    No module or data file of the two packages is left behind.
    """
    here = {
        path.relative_to(ROOT).as_posix()
        for package in ("toolkit", "workflows")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert here - set(zipfile.ZipFile(wheel).namelist()) == set()


def test_wheel_has_the_sources_of_the_sidecar(wheel: Path):
    """
    An installed ``occ run`` can build daprd: the Go module is in the wheel, byte for byte.
    """
    packed = zipfile.ZipFile(wheel)
    here = {
        path.name: path.read_bytes()
        for path in (ROOT / "sidecar").iterdir()
        if path.suffix in {".go", ".mod", ".sum"}
    }
    inside = {name: packed.read(f"toolkit/sidecar/_module/{name}") for name in here}
    assert inside == here


def test_installed_package_imports(python: Path):
    """
    Both packages import from the clean environment, not from the checkout.
    """
    code = "import toolkit, workflows; print(toolkit.__file__); print(workflows.__file__); toolkit.StateStore"
    places = run(python, "-I", "-c", code, cwd=python.parent).splitlines()
    assert [Path(place).is_relative_to(python.parent.parent) for place in places] == [True, True]


def test_installed_command_shows_its_help(python: Path):
    """
    ``occ --help`` works as installed and lists the commands.
    """
    shown = run(python.parent / "occ", "--help", cwd=python.parent)
    assert "run" in shown
    assert "demo" in shown
    assert "log" in shown


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_declared_dependencies_suffice(wheel: Path, tmp_path: Path):
    """
    With only what the wheel declares, the library works and ``occ`` says what to install.
    """
    interpreter = clean_venv(tmp_path)
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        interpreter,
        "install",
        "--quiet",
        wheel,
        cwd=tmp_path,
        timeout=350,
    )
    code = (
        "from toolkit import StateStore\n"
        "from toolkit.testing import MemoryStore\n"
        "with StateStore('s', port=MemoryStore(profile='sqlite')) as store:\n"
        "    store.create('k', {'n': 1})\n"
        "    print(store.get('k'))\n"
        "import toolkit.dapr, workflows\n"
    )
    assert run(interpreter, "-I", "-c", code, cwd=tmp_path) == "{'n': 1}\n"
    told = subprocess.run(
        [str(interpreter.parent / "occ"), "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (told.returncode, "dapr-occ[cli]" in told.stderr, "Traceback" in told.stderr) == (2, True, False)
