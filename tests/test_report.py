"""`mpdit report`: every table and figure of the pages' first view, of whatever runs there are."""

import json
import re
import shutil
import sys
from collections import Counter
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pytest
from small_runs import write_run

from analysis.defaults import all_defaults
from analysis.quality_sweeps import LARGEST_ERROR
from analysis.report import writing
from analysis.report.chapters import PARTS
from analysis.report.files import file_names
from analysis.report.writing import Wanted, write_report
from analysis.samples import STRIP, sampled_images
from analysis.store import Store
from analysis.tables import spread_out
from app import cli
from app.commands.choosing import chosen_weights
from app.library import read_library
from mpdit_core.config import modulation_study, preset
from mpdit_core.errors import MPDiTError
from mpdit_core.runs import Run, Weights

ROOT = Path(__file__).parents[1]
MAP_DIT = ROOT / "tests" / "fixtures" / "map-dit" / "head-all"
HOSTILE = "<img src=x onerror=alert(1)> \"&'{{ 7 * 7 }}"
SIZES = {"depth": 1, "width": 8, "heads": 1}
FEW = tuple(part for part in PARTS if part.place in ("runs", "ema"))
SOURCES = [source for part in PARTS for source in part.sources]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run with rotation and a name that attacks, a plain one, one of map-dit, a broken one."""
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder, HOSTILE, modulation_study(("scale", "rotation"), **SIZES))
    write_run(folder, "A", preset("A", **SIZES), averages=False)
    shutil.copytree(MAP_DIT, folder / "theirs")
    (folder / "broken").mkdir()
    (folder / "broken" / "run.json").write_text("{")
    return folder


def wanted(folder: Path, parts=PARTS, sampling=False) -> Wanted:
    library = read_library((folder,))
    weights = {run.name: str(chosen_weights(run, None)) for run in library.runs}
    unusable = tuple((each.name, each.reason) for each in library.unusable)
    return Wanted(library.runs, weights, parts, unusable, sampling)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def report(folder, store, tmp_path_factory) -> Path:
    """The report on all pages; of one run the six samples were drawn before."""
    asked = wanted(folder)
    run = next(run for run in asked.runs if run.name == "A")
    store.result(sampled_images, run, asked.weights["A"], STRIP)
    out = tmp_path_factory.mktemp("report") / "new"
    write_report(asked, store, out)
    return out


def html_files(report: Path) -> list[Path]:
    return sorted(report.rglob("*.html"))


@lru_cache
def read(file: Path) -> "Reader":
    return Reader(file)


class Reader(HTMLParser):
    """Links, names of places, and elements of a page."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.elements: Counter[str] = Counter()
        self.text = ""
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        found = dict(attrs)
        self.links += [link for name in ("href", "src") if (link := found.get(name))]
        self.places.add(found.get("id") or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_questions_of_the_pages_are_those_of_the_report():
    for part in PARTS:
        page = (ROOT / "app" / "pages" / f"{part.place}.py").read_text()
        assert f'question("{part.question}")' in page
        entry = rf'Entry\(\s*"\w+",\s*"{re.escape(part.title)}",\s*"{part.place}"'
        assert re.search(entry, (ROOT / "app" / "main.py").read_text())


def test_names_of_tables_and_figures_are_told_apart():
    by_name = {source.name: source for source in SOURCES}
    assert all(by_name[source.name] is source for source in SOURCES)
    names = [chapter.name for part in PARTS for chapter in part.chapters]
    derived = [chapter.name for part in PARTS for chapter in part.chapters if chapter.rows]
    assert len(set(names)) == len(names)
    assert not set(derived) & set(by_name)


def test_every_default_of_the_analyses_is_asked(folder):
    """Whatever ships with the runs because a page shows it first is in the report."""
    asked = wanted(folder)
    for run in asked.runs:
        points = {
            (source.question.name, point.settings, point.weights)
            for source in SOURCES
            if not source.lacking(run)
            for point in source.points(run, asked.weights[run.name])
        }
        for default in all_defaults():
            for weights in default.weights:
                if answerable(run, default, weights):
                    assert (default.question.name, default.settings, weights) in points


def answerable(run: Run, default, weights: str) -> bool:
    """Whether a default can be asked of this run, as the page asks it."""
    name = default.question.name
    if run.name != HOSTILE or default.runs and name not in ("intervened_samples",):
        return False
    if default.settings.model_dump().get("interventions"):
        return False  # those of the shipped runs' third block
    sigma = Weights.parse(weights).sigma_rel
    try:
        run.checkpoint_sha256(weights)
    except MPDiTError:
        return False
    judged = name == "sample_quality" and sigma is not None
    return not judged or run.reconstruction(sigma).error <= LARGEST_ERROR


def test_every_table_is_that_of_the_store_as_parquet_and_as_csv(report, folder, store):
    asked, seen = wanted(folder), 0
    for source in SOURCES:
        expected = stored(source, asked, store)
        file = report / "tables" / f"{source.name}.parquet"
        if expected is None:
            assert not file.exists()
            continue
        seen += 1
        found = pd.read_parquet(file)
        pd.testing.assert_frame_equal(found, expected.reset_index(drop=True), check_dtype=False)
        same_numbers(pd.read_csv(file.with_suffix(".csv"), keep_default_na=False), expected)
    assert seen > 30


def stored(source, asked: Wanted, store: Store) -> pd.DataFrame | None:
    """What the store holds of a source, run by run."""
    tables = []
    for run in asked.runs:
        if source.lacking(run):
            continue
        for point in source.points(run, asked.weights[run.name]):
            try:
                key = store.key(source.question, run, point.weights, point.settings)
            except MPDiTError:
                continue
            if (table := store.load(key)) is not None:
                tables.append(point.placed(table))
    joined = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    return joined if len(joined) else None


def same_numbers(csv: pd.DataFrame, table: pd.DataFrame) -> None:
    flat = spread_out(table)
    assert list(csv) == [str(name) for name in flat] and len(csv) == len(flat)
    for name in flat:
        if pd.api.types.is_float_dtype(flat[name]):
            numbers = pd.to_numeric(csv[name].replace("", np.nan)).astype(flat[name].dtype)
            np.testing.assert_allclose(numbers, flat[name], rtol=1e-6)
        else:
            words = ["" if pd.isna(item) else str(item) for item in flat[name]]
            assert [str(item).lower() for item in csv[name]] == [word.lower() for word in words]


def test_every_figure_has_traces_and_finds_plotly_beside_it(report):
    figures = sorted((report / "figures").glob("*.html"))
    assert len(figures) > 40
    for file in figures:
        found = Reader(file)
        data = re.search(r'id="data">(.*?)</script>', file.read_text(), re.DOTALL)
        figure = json.loads(data[1]) if data else {}
        assert figure["data"] and figure["layout"]["title"]["text"]
        assert not figure["layout"].get("template")  # the reader's background decides
        assert "plotly.min.js" in found.links
    assert "Plotly" in (report / "figures" / "plotly.min.js").read_text()


def test_every_link_leads_somewhere_in_the_folder_and_every_file_has_one(report):
    reached = {"index.html", "report.json"}
    for file in html_files(report):
        for link in read(file).links:
            parts = urlsplit(link)
            assert not parts.scheme and not parts.netloc
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            assert target.is_file() and target.is_relative_to(report.resolve())
            assert not parts.fragment or parts.fragment in read(target).places
            reached.add(target.relative_to(report.resolve()).as_posix())
    written = {path.relative_to(report).as_posix() for path in report.rglob("*") if path.is_file()}
    assert written == reached


def test_a_run_s_name_is_text_and_nothing_else(report):
    for file in html_files(report):
        found = Reader(file)
        assert not found.elements["img"] and "<img" not in file.read_text()
        assert found.elements["script"] == (0 if file.name == "index.html" else 4)
    text = Reader(report / "index.html").text
    assert HOSTILE in text
    assert all(re.fullmatch(r"[\w.-]+", path.name) for path in report.rglob("*"))


def test_what_a_run_lacks_is_said_and_nothing_failed(report):
    text = Reader(report / "index.html").text
    assert "unexpected" not in text
    assert "A has no rotation." in text
    assert "A keeps no EMA (averaged weights)." in text
    assert "theirs draws no digits" in text and "near-copies" in text
    assert "broken is left out:" in text and "readable JSON" in text
    assert "--quality" in text and "images are not drawn yet" in text
    assert (report / "figures" / "six-samples.html").is_file()  # those that were stored
    assert not (report / "figures" / "samples.html").exists()


def test_names_of_files_are_told_apart_on_every_file_system():
    names = ["a", "A", "a/b", "a b", "..", "", "x" * 300, "ok"]
    found = list(file_names(names).values())
    assert len({name.lower() for name in found}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,80}", name) for name in found)
    assert found[-1] == "ok"


def test_a_killed_report_goes_on_without_computing_again(folder, tmp_path, monkeypatch):
    store, out, computed = Store(tmp_path / "store"), tmp_path / "report", Counter()
    compute = Store._compute

    def counted(self, key, *rest):
        table = compute(self, key, *rest)  # what fails is tried again
        computed[key] += 1
        return table

    def killed(content):
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "_compute", counted)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(writing, "index_html", killed)
        write_report(wanted(folder, FEW), store, out)
    before = {path: path.read_bytes() for path in (out / "tables").iterdir()}
    assert before and not (out / "index.html").exists()
    write_report(wanted(folder, FEW), store, out)
    assert (out / "index.html").is_file() and set(computed.values()) == {1}
    assert all(path.read_bytes() == content for path, content in before.items())


def test_another_report_in_the_same_folder_leaves_nothing_of_the_first(folder, store, tmp_path):
    out = tmp_path / "report"
    write_report(wanted(folder, FEW), store, out)
    (out / "notes.txt").write_text("mine")
    write_report(wanted(folder, FEW[:1]), store, out)
    assert not list(out.rglob("ema-*")) and list(out.rglob("learning-curves*"))
    assert (out / "notes.txt").read_text() == "mine"


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def mpdit(monkeypatch, capsys):
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mpdit", "report", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_the_command_writes_the_chosen_pages_and_says_where(folder, mpdit, tmp_path):
    out = tmp_path / "r"
    code, said, left_out = mpdit(folder, "--out", out, "--pages", "ema,runs", "--weights", "final")
    assert code == 0 and str(out / "index.html") in said and "2 pages, 3 runs, final" in said
    assert "broken" in left_out
    index = Reader(out / "index.html")
    assert {"runs", "ema"} <= index.places and "theory" not in index.places


@pytest.mark.parametrize("kind", ["empty", "nowhere", "page", "foreign", "file", "weights"])
def test_what_cannot_be_done_is_one_sentence(folder, mpdit, tmp_path, kind):
    runs, out, more = folder, tmp_path / "out", ["--pages", "runs"]
    if kind == "empty":
        runs = tmp_path / "none"
        runs.mkdir()
    elif kind == "nowhere":
        runs = tmp_path / "nowhere"
    elif kind == "page":
        more = ["--pages", "quality,poetry"]
    elif kind == "foreign":
        out.mkdir()
        (out / "thesis.txt").write_text("years of work")
    elif kind == "file":
        out.write_text("a file")
    else:
        more = ["--weights", "best"]
    code, said, error = mpdit(runs, "--out", out, *more)
    last = error.strip().splitlines()[-1]
    assert code == 1 and not said and last.startswith("Error: ") and "unexpected" not in last
    named = {"empty": "no readable run", "nowhere": "no folder", "page": "'poetry'",
             "foreign": "not empty", "file": "is a file", "weights": "'best'"}  # fmt: skip
    assert named[kind] in last
    assert kind != "foreign" or (out / "thesis.txt").read_text() == "years of work"
