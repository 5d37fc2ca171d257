"""`pip install .`: the wheel holds all of the three packages, the theme and the command."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("mpdit_core", "analysis", "app")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy, so that the repository gets no build/ and no egg-info.

    Built with the setuptools that torch brings: nothing is fetched."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, source / package, ignore=ignored)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    built = subprocess.run([*pip, "-w", source / "dist", source], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (path,) = (source / "dist").glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_wheel_holds_every_file_of_the_packages(wheel):
    files = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "app/.streamlit/config.toml" in files
    assert files <= set(wheel.namelist())


def test_the_wheel_gives_the_command_and_pins_what_it_needs(wheel):
    (entries,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "mpdit = app.cli:main" in wheel.read(entries).decode()
    (metadata,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
    assert "Requires-Dist: torch==2.13.0" in wheel.read(metadata).decode()
