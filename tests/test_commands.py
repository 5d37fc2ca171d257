"""The commands of the README: make, the container, CI and the server's settings agree."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import chromium
import pytest

from analysis.figures import theme

ROOT = Path(__file__).parents[1]
TARGETS = {"app", "test", "setup", "checkpoints", "lint", "types", "bench", "health"}
STREAMLIT = tomllib.loads((ROOT / "app" / ".streamlit" / "config.toml").read_text())


def make(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    # MAKEFLAGS of the `make test` around us would reach this call and change what it prints.
    outer = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


def instructions(kind: str) -> list[str]:
    """The Dockerfile's instructions of one kind, continued lines joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return re.findall(rf"^{kind}\s+(.+)$", text, flags=re.MULTILINE)


@pytest.fixture
def clone(tmp_path):
    """A folder with the Makefile and the requirements, and nothing installed."""
    for name in ("Makefile", "requirements.txt", "requirements-test.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_every_promised_target_exists():
    for target in TARGETS:
        assert make("-n", target).returncode == 0, target


def test_setup_installs_torch_alone_and_before_the_rest(clone):
    steps = make("-n", "setup", folder=clone).stdout.splitlines()
    installs = [step.split("install ")[1].strip() for step in steps if "pip" in step]
    assert installs == ["torch==2.13.0", "-r requirements.txt", "--no-deps --editable ."]


def test_setup_has_nothing_to_do_a_second_time_until_the_requirements_change(clone):
    ready = clone / ".venv" / ".ready"
    ready.parent.mkdir()
    ready.touch()
    os.utime(clone / "requirements.txt", (0, 0))
    assert make("-q", "setup", folder=clone).returncode == 0
    os.utime(clone / "requirements.txt")
    os.utime(ready, (0, 0))
    assert make("-q", "setup", folder=clone).returncode == 1


def test_setup_refuses_an_old_python_in_one_sentence(clone):
    old = clone / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    refused = make("setup", f"PYTHON={old}", folder=clone)
    assert refused.returncode != 0 and "Python 3.11 or newer" in refused.stdout
    assert not (clone / ".venv").exists()


def test_the_app_listens_on_localhost_and_on_the_port_asked_for():
    assert "dashboard checkpoints --port 8501" in make("-n", "app").stdout
    assert "--host" not in make("-n", "app").stdout
    assert "--port 9000" in make("-n", "app", "PORT=9000").stdout


def test_the_test_command_lints_checks_types_and_runs_pytest():
    steps = make("-n", "test").stdout
    for step in ("ruff check", "ruff format --check", "basedpyright", "-m pytest"):
        assert step in steps


def test_ci_runs_the_test_command_of_the_readme():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    assert script.read_text().rstrip().splitlines()[-1] == "make test"
    assert re.search(r"^make test\b", (ROOT / "README.md").read_text(), flags=re.MULTILINE)


def test_the_container_installs_and_runs_through_make_only():
    steps = [step.strip() for run in instructions("RUN") for step in run.split("&&")]
    assert {step.split()[0] for step in steps} == {"useradd", "install", "make"}
    (command,) = instructions("CMD")
    assert command.startswith('["make", "app"') and not instructions("ENTRYPOINT")
    called = {step.split()[1] for step in steps if step.startswith("make")}
    assert called <= TARGETS


def test_the_container_is_not_root_watches_its_health_and_takes_more_checkpoints():
    assert instructions("USER")[-1] not in {"root", "0"}
    assert instructions("HEALTHCHECK")[0].endswith("CMD make health")
    assert "/checkpoints/" in instructions("VOLUME")[0]


def test_the_dashboard_calls_nobody_and_shows_no_traceback():
    assert STREAMLIT["browser"]["gatherUsageStats"] is False
    assert STREAMLIT["server"]["address"] == "localhost"
    assert STREAMLIT["server"]["fileWatcherType"] == "none"
    assert STREAMLIT["client"]["showErrorDetails"] == "none"
    assert STREAMLIT["client"]["toolbarMode"] in {"viewer", "minimal"}


def test_the_theme_is_one_file_for_a_clone_and_for_an_installed_package():
    assert (ROOT / ".streamlit" / "config.toml").resolve() == (
        ROOT / "app" / ".streamlit" / "config.toml"
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert ".streamlit/config.toml" in project["tool"]["setuptools"]["package-data"]["app"]


def test_streamlit_knows_every_setting():
    shown = subprocess.run(
        [sys.executable, "-m", "streamlit", "config", "show"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert STREAMLIT["theme"]["primaryColor"] in shown.stdout
    assert "not a valid config option" not in shown.stdout + shown.stderr


def test_a_missing_chromium_says_how_to_get_it_and_fails_only_in_ci(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt-get install chromium"):
        chromium.chromium_or_reason()
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="apt-get install chromium"):
        chromium.chromium_or_reason()


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_figures_and_pages_share_their_background_and_text(mode):
    assert theme.BACKGROUND[mode] == STREAMLIT["theme"][mode]["backgroundColor"]
    assert theme.TEXT[mode] == STREAMLIT["theme"][mode]["textColor"]
