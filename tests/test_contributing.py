"""The guide's examples are files, and they work where the guide puts them."""

import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from streamlit.testing.v1 import AppTest
from test_probing import FEW, run  # noqa: F401 - a fixture is used by its name

from analysis.probing import probe_inputs
from analysis.question import Question
from app.library import read_library
from mpdit_core import runs
from mpdit_core.errors import UnreadableRun, UnsafeFile

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "tests" / "guide"
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
EXAMPLES = sorted(file for file in GUIDE.rglob("*.py") if file.parent != GUIDE)
HOMES = ("analysis", "analysis.figures", "app.pages", "mpdit_core.runs")


@pytest.fixture
def example(monkeypatch):
    """Imports a module of the guide by the name it would have, for the time of one test."""
    for home in HOMES:
        package = importlib.import_module(home)
        beside = GUIDE / home.replace(".", "/")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(beside)])
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if (GUIDE / f"{name.replace('.', '/')}.py").exists():
            del sys.modules[name]


@pytest.fixture
def folder(run, tmp_path) -> Path:  # noqa: F811
    """A run of their layout with the weights of ours."""
    place = tmp_path / "a-run"
    (place / "checkpoints").mkdir(parents=True)
    (place / "theirs.json").write_text(run.config.model_dump_json())
    state = {f"net.{name}": tensor for name, tensor in run.state_dict("final").items()}
    torch.save(state, place / "checkpoints" / "0000400.pt")
    return place


@pytest.fixture
def theirs(example, monkeypatch) -> ModuleType:
    """The reader, asked after all others."""
    reader = example("mpdit_core.runs.theirs")
    monkeypatch.setattr(runs, "READERS", (*runs.READERS, reader))
    return reader


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def quotes() -> dict[str, list[str]]:
    """File -> lines of it, from the blocks that begin with a file's name as a comment."""
    found = [block.splitlines() for block in python_blocks() if block.startswith("# ")]
    return {lines[0].removeprefix("# "): lines[1:] for lines in found}


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: str(file.relative_to(GUIDE)))
def test_the_guide_shows_every_example_as_it_is(file):
    assert file.read_text() in python_blocks()
    assert f"`{file.relative_to(GUIDE)}`" in TEXT or file.stem == "negative_units"


def test_every_block_of_the_guide_is_an_example_or_a_quote():
    assert len(python_blocks()) == len(EXAMPLES) + len(quotes()) and quotes()


@pytest.mark.parametrize("name", quotes())
def test_what_the_guide_quotes_stands_in_the_file(name):
    lines = [line.strip() for line in (ROOT / name).read_text().splitlines()]
    assert not [line for line in quotes()[name] if line.strip() not in lines]


def blocks_by_hand(run):  # noqa: F811
    """Per timestep: magnitudes of what the last block's MLP adds, and its hidden layer."""
    model, found = run.model("final"), {}
    last = model.blocks[-1].mlp
    hidden, added = [], []
    handles = [
        last.core.down.register_forward_pre_hook(lambda _m, given: hidden.append(given[0])),
        last.point_gated.register_forward_hook(lambda _m, _given, out: added.append(out)),
    ]
    for part in probe_inputs(run, model, FEW):
        model(part.noisy, torch.full_like(part.labels, part.timestep), part.labels)
        found[part.timestep] = (added.pop().double().square().mean(-1).sqrt(), hidden.pop())
    for handle in handles:
        handle.remove()
    return found


def test_the_guides_analyses_equal_a_calculation_by_hand(run, example):  # noqa: F811
    output = example("analysis.branch_output")
    negative = example("analysis.negative_units").negative_units(run, "final", FEW)
    settings = output.BranchOutputSettings(**FEW.model_dump())
    table = output.branch_output(run, "final", settings)
    assert len(table) == 2 * 2 * 3 and len(negative) == 2 * 3
    for timestep, (added, hidden) in blocks_by_hand(run).items():
        place = f"block == 1 and timestep == {timestep}"
        row = table.query(f"{place} and branch == 'mlp'").iloc[0]
        assert row["n"] == added.numel()
        assert row["value"] == pytest.approx(added.mean().item(), rel=1e-5)
        share = negative.query(place)["value"].item()
        assert share == pytest.approx((hidden < 0).float().mean().item(), rel=1e-5)


def test_the_guides_default_is_one_that_precompute_can_ask(example):
    (default,) = example("analysis.branch_output").DEFAULTS
    assert isinstance(default.question, Question) and default.question.name == "branch_output"
    assert isinstance(default.settings, default.question.settings_type)


def one_page() -> None:
    """A script of one page; AppTest runs its source in a file of its own."""
    from app.library import current_library
    from app.pages import branch_output
    from app.view import open_view

    branch_output.page(open_view("branch_output", current_library()))


def test_the_guides_page_shows_question_answer_and_figure(run, example, monkeypatch):  # noqa: F811
    monkeypatch.setenv("MPDIT_RUNS", str(run.folder))
    output = example("analysis.branch_output")
    store = read_library((run.folder,)).store
    store.result(output.branch_output, run, "ema-0.100", output.BranchOutputSettings())
    page = AppTest.from_function(one_page, default_timeout=60).run()
    assert not page.exception and not page.error
    assert page.header[0].value == "How much does each branch add to the stream?"
    (figure,) = page.get("plotly_chart")
    assert [trace["name"] for trace in json.loads(figure.proto.spec)["data"]] == [run.name]
    assert "in E adds most: magnitude" in page.markdown[0].value.replace("\\", "")


def test_the_guides_reader_opens_what_map_dit_leaves_to_it(run, folder, theirs):  # noqa: F811
    with torch.no_grad():
        part = probe_inputs(run, run.model(), FEW)[0]
        given = (part.noisy, torch.full_like(part.labels, part.timestep), part.labels)
        found = runs.load_run(folder)
        assert (found.layout, found.steps) == (theirs.LAYOUT, (400,))
        assert torch.equal(found.model()(*given), run.model()(*given))


def rewrite(folder: Path, change) -> None:
    file = folder / "checkpoints" / "0000400.pt"
    state = torch.load(file, weights_only=True)
    change(state)
    torch.save(state, file)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda f: (f / "theirs.json").write_text("{"), "theirs.json"),
        (lambda f: (f / "theirs.json").write_text('{"depth": 0}'), "depth"),
        (lambda f: (f / "checkpoints" / "0000400.pt").unlink(), "400.pt"),
        (lambda f: (f / "checkpoints" / "0000400.pt").write_bytes(b"PK\x03\x04"), "0000400.pt"),
        (lambda f: torch.save([1], f / "checkpoints" / "0000400.pt"), "state dict"),
        (lambda f: rewrite(f, lambda state: state.pop("net.patches.position")), "position"),
    ],
)
def test_the_guides_reader_says_what_is_wrong(folder, theirs, damage, named):
    damage(folder)
    with pytest.raises(UnreadableRun, match=re.escape(named)) as refused:
        runs.load_run(folder)
    assert "\n" not in str(refused.value)


def test_the_guides_reader_runs_no_code(folder, theirs):
    torch.save({"net.patches.position": Path("x")}, folder / "checkpoints" / "0000400.pt")
    with pytest.raises(UnsafeFile):
        runs.load_run(folder)
