"""The house rules: who may import whom, what is declared, what no file may hold."""

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGES = ("mpdit_core", "analysis", "app")
# where -> what may not be imported there (a name stands for everything below it)
RULES = {
    "mpdit_core": {"analysis", "app", "streamlit", "plotly", "pandas"},
    "analysis": {"app", "streamlit"},
    "app/pages": {"torch", "app.pages"},
    "benchmarks": {"streamlit"},
}
# Folders of this machine's or anyone's home: a file that names one works in one place only.
MACHINE_PATH = re.compile(rb"(?<![\w.~-])/(?:work|root|home|Users)/[\w.-]+")


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported(source: str, package: str) -> set[str]:
    """Every module, and every name in it, that the source imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            module = importlib.util.resolve_name(relative, package)
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


def imported_by(path: Path) -> set[str]:
    return imported(path.read_text(), ".".join(path.relative_to(ROOT).parent.parts))


def below(name: str, tops: set[str]) -> bool:
    return any(name == top or name.startswith(f"{top}.") for top in tops)


def tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    return [ROOT / name for name in listing.stdout.decode().split("\0") if name]


def requirements(name: str) -> list[str]:
    lines = (line.strip() for line in (ROOT / name).read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("folder", RULES)
def test_imports_point_one_way(folder):
    assert modules(folder), f"no module below {folder}: the rule checks nothing"
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(folder)
        for name in imported_by(path)
        if below(name, RULES[folder])
    }
    assert not wrong


def test_plotly_draws_in_figures_and_in_the_app_only():
    figures = ROOT / "analysis" / "figures"
    others = [path for path in modules("analysis") if figures not in path.parents]
    assert others and modules("analysis/figures")
    assert not [path for path in others if any(below(n, {"plotly"}) for n in imported_by(path))]


def test_the_import_check_sees_hidden_and_relative_imports():
    source = (
        "def late():\n    import torch.nn\n    from .other import thing\n    from .. import jobs"
    )
    assert imported(source, "app.pages") == {
        "torch.nn",
        "app.pages.other",
        "app.pages.other.thing",
        "app",
        "app.jobs",
    }


def test_every_dependency_is_pinned_to_one_version():
    for name in ("requirements.txt", "requirements-test.txt"):
        loose = [line for line in requirements(name) if not re.fullmatch(r"[\w-]+==[\w.]+", line)]
        assert requirements(name) and not loose, f"{name}: {loose}"


def test_what_the_packages_import_is_required_by_name():
    required = {line.split("==")[0] for line in requirements("requirements.txt")}
    names = {
        name for package in PACKAGES for path in modules(package) for name in imported_by(path)
    }
    foreign = {name.split(".")[0] for name in names} - set(PACKAGES) - set(sys.stdlib_module_names)
    brought_by = packages_distributions()
    assert {"torch", "streamlit"} <= foreign
    unnamed = {top for top in foreign if required.isdisjoint(map(str.lower, brought_by[top]))}
    assert not unnamed, f"imported, but not in requirements.txt: {sorted(unnamed)}"


def test_no_tracked_file_names_a_folder_of_one_machine():
    assert Path(__file__) in tracked()
    found = {
        f"{path.relative_to(ROOT)}: {match.group().decode()}"
        for path in tracked()
        if path.is_file()
        for match in MACHINE_PATH.finditer(path.read_bytes())
    }
    assert not found


def test_the_path_check_knows_a_machine_path_from_others():
    assert MACHINE_PATH.search(b"open('" + b"/ro" + b"ot/data.pt')")
    for harmless in (b"/srv/mpdit/checkpoints", b"/path/to/data", b"a/home/b", b"~/.cache/mpdit"):
        assert not MACHINE_PATH.search(harmless)


def test_the_citation_names_the_paper_and_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"] == "Apache-2.0"
    assert "2505.19122" in citation["references"][0]["doi"]
    assert "Apache License" in (ROOT / "LICENSE").read_text()
