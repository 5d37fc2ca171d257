"""Whatever is registered is documented, and what the documents name exists."""

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
    return re.findall(r'Entry\("\w+", "([\w ]+)"', text_of("app/main.py"))


def test_every_page_is_in_the_readme():
    assert len(pages()) >= 5
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
    named = {
        target for name in DOCUMENTS for target in re.findall(r"make ([a-z]+)\b`", text_of(name))
    }
    assert named and named <= targets


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_between_documents_lead_somewhere(name):
    links = re.findall(r"\]\(([^)#]+?)\)", text_of(name))
    local = [link for link in links if not link.startswith("http")]
    assert not [link for link in local if not ((ROOT / name).parent / link).exists()]
