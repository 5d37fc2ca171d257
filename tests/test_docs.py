"""Whatever is registered is documented, and what the documents name exists."""

import ast
import re
from pathlib import Path

import pytest

from mpdit_core import preset
from mpdit_core.config import modulation_study
from mpdit_core.probes import points
from mpdit_core.runs import READERS

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/reference.md")


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


def pages() -> list[str]:
    """Titles of the pages, read without running the script."""
    calls = [node for node in ast.walk(ast.parse(text_of("app/main.py"))) if is_entry(node)]
    return [ast.literal_eval(call.args[1]) for call in calls]


def is_entry(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Entry"


def test_every_page_is_in_the_readme():
    assert len(pages()) == len(re.findall(r"\bEntry\(", text_of("app/main.py"))) >= 5
    readme = text_of("README.md")
    assert not [page for page in pages() if f"**{page}**" not in readme]


def test_every_probe_point_is_in_the_reference():
    config = modulation_study(("scale", "shift", "rotation", "gate"), depth=1)
    names = {re.sub(r"\d+", "i", p.name) for c in (config, preset("A", depth=1)) for p in points(c)}
    reference = text_of("docs/reference.md")
    assert not [name for name in sorted(names) if f"`{name}`" not in reference]


def test_every_analysis_is_in_the_reference():
    from analysis import MODULES

    reference = text_of("docs/reference.md")
    assert not [name for name in MODULES if f"`{name}`" not in reference]


def test_every_layout_is_in_the_reference():
    reference = text_of("docs/reference.md")
    assert not [reader.LAYOUT for reader in READERS if f"`{reader.LAYOUT}`" not in reference]


def test_every_make_target_that_the_documents_name_exists():
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    named = {name: make_targets(text_of(name)) for name in DOCUMENTS}
    assert {"app", "test", "setup"} <= named["README.md"]
    assert not set.union(*named.values()) - targets


def make_targets(text: str) -> set[str]:
    """Targets of the commands in blocks and in `code`, settings before them or not."""
    code = re.findall(r"```.*?```|`[^`]+`", text, re.DOTALL)
    command = re.compile(r"^`?(?:[A-Z_]+=\S+ )*make ([a-z-]+)", re.MULTILINE)
    return {target for part in code for target in command.findall(part)}


def test_make_targets_are_found_in_blocks_and_in_the_text():
    text = "`make a-b`, `PORT=1 make c X=2`, make up your mind\n```sh\nmake d   # why\n```\n"
    assert make_targets(text) == {"a-b", "c", "d"}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_between_documents_lead_somewhere(name):
    links = re.findall(r"\]\(([^)#]+?)\)", text_of(name))
    local = [link for link in links if not link.startswith("http")]
    assert not [link for link in local if not ((ROOT / name).parent / link).exists()]
