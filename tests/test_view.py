"""The view: what a link asks for, the nearest there is, what is written back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from app import library
from app.held import Held
from app.library import Unusable, read_library
from app.link import Link, read_link
from app.selection import (
    default_weights,
    has_weights,
    nearest_runs,
    nearest_weights,
    preselected,
    weights_label,
    weights_of,
)
from app.view import View, _adopt
from app.widgets import nearest_number, nearest_option
from mpdit_core.errors import NoSuchWeights
from mpdit_core.runs import BrokenRun, Run, Weights


class FakeRun(Run):
    """A run of which only the list of weights counts."""

    def __init__(self, name="A", steps=(0, 200, 400), averages=(0.05, 0.1), folder=None):
        raw = {step: None for step in steps}
        ema = {sigma: {steps[-1]: None} for sigma in averages}
        values = {"name": name, "raw_files": raw, "ema_files": ema, "folder": folder}
        for field, value in {**values, "ema_trap": None}.items():
            object.__setattr__(self, field, value)


NAMES = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=12)
"""Any printable name, with commas, percent signs and ampersands."""


@given(runs=st.lists(NAMES, max_size=5), settings=st.dictionaries(NAMES, NAMES, max_size=3))
def test_a_link_that_is_written_is_read_as_the_same_view(runs, settings):
    settings = {name: text for name, text in settings.items() if name not in ("runs", "weights")}
    link = Link(tuple(runs), "ema-0.100", settings)
    assert read_link(link.parameters()) == link


def test_a_link_is_short_and_readable():
    link = Link(("A", "scale-rotation"), "step-2500", {"t": "500"})
    assert link.query() == "runs=A,scale-rotation&weights=step-2500&t=500"


def test_a_link_that_says_nothing_is_told_from_one_that_asks_for_no_runs():
    assert read_link({}).runs is None
    assert read_link({"runs": ""}).runs == ()


def test_a_to_e_are_preselected_else_the_first_five():
    assert preselected(["x", "E", "A", "C"]) == ("A", "C", "E")
    assert preselected(list("uvwxyz")) == tuple("uvwxy")
    assert preselected([]) == ()


@pytest.mark.parametrize(
    ("asked", "shown", "words"),
    [
        (None, ("A", "E"), ""),
        (["E"], ("E",), ""),
        (["E", "E"], ("E",), ""),
        ([], (), ""),
        (["E", "Z"], ("E",), "There is no run called Z here; shown: E."),
        (["Y", "Z"], ("A", "E"), "There are no runs called Y and Z here; shown: A and E."),
    ],
)
def test_the_nearest_runs_to_those_asked_for(asked, shown, words):
    assert nearest_runs(asked, ["A", "E"]) == (shown, words)


def test_without_any_run_a_link_opens_an_empty_view():
    assert nearest_runs(["A"], []) == ((), "There is no run called A here; none can be shown.")
    assert nearest_weights("nonsense", ()) == ("final", "")
    assert nearest_weights("nonsense", ())[0] == "final"


@pytest.mark.parametrize(
    ("asked", "shown", "told"),
    [
        (None, "ema-0.100", ""),
        ("initial", "initial", ""),
        ("step-200", "step-200", ""),
        ("step-0", "step-0", ""),
        ("ema-0.137", "ema-0.137", ""),
        ("step-290", "step-200", "No run shown has the weights 'step-290'"),
        ("step-9999", "step-400", "No run shown has the weights 'step-9999'"),
        ("ema-0.900", "ema-0.288", "No average is as wide or narrow as 'ema-0.900'"),
        ("ema-0.000", "ema-0.005", "No average is as wide or narrow as 'ema-0.000'"),
        ("ema-0.100-step-200", "ema-0.100", "Averages are shown as they are at the end"),
        ("best", "ema-0.100", "'best' names no weights"),
        ("", "ema-0.100", "'' names no weights"),
    ],
)
def test_the_nearest_weights_to_those_asked_for(asked, shown, told):
    weights, sentence = nearest_weights(asked, [FakeRun()])
    assert weights == shown
    assert sentence.startswith(told) and bool(sentence) == bool(told)


def test_weights_that_one_run_of_several_has_are_kept():
    assert nearest_weights("step-200", [FakeRun(), FakeRun(steps=(0, 999))]) == ("step-200", "")


def test_a_run_without_averages_shows_its_last_weights():
    plain = FakeRun(averages=())
    assert default_weights([plain]) == "final"
    assert nearest_weights("ema-0.100", [plain])[0] == "final"
    assert not has_weights(plain, "ema-0.100") and has_weights(FakeRun(), "ema-0.173")


def test_weights_are_listed_from_the_first_to_the_averages():
    runs = [FakeRun(), FakeRun(steps=(0, 300, 400), averages=(0.1,))]
    wanted = ("initial", "step-200", "step-300", "final", "ema-0.050", "ema-0.100")
    assert weights_of(runs) == wanted
    assert weights_label("ema-0.100-step-2500") == "EMA 10 % at step 2,500"
    labels = [weights_label(weights) for weights in wanted]
    assert labels == ["initial", "step 200", "step 300", "final", "EMA 5 %", "EMA 10 %"]


@given(st.text(max_size=20))
def test_whatever_a_link_says_of_weights_opens_a_view(text):
    weights, _ = nearest_weights(text, [FakeRun()])
    assert has_weights(FakeRun(), weights)


def test_weights_keep_their_text_through_the_link():
    for text in ("initial", "final", "step-2500", "ema-0.100"):
        assert str(Weights.parse(text)) == text
    with pytest.raises(NoSuchWeights):
        Weights.parse("last")


@pytest.mark.parametrize(
    ("text", "value", "exact"),
    [
        ("500", 500, True),
        ("510", 500, False),
        ("-1", 0, False),
        ("1e9", 999, False),
        ("nan", None, False),
        ("", None, False),
        ("mlp", None, False),
    ],
)
def test_a_number_that_is_no_option_opens_the_nearest(text, value, exact):
    assert nearest_option(text, [999, 500, 0]) == (value, exact)


def test_a_word_that_is_no_option_opens_the_default():
    assert nearest_option("attention", ["attn", "mlp"]) == (None, False)
    assert nearest_option("mlp", ["attn", "mlp"]) == ("mlp", True)


@pytest.mark.parametrize(
    ("text", "value", "exact"),
    [("3", 3, True), ("3.4", 3, False), ("99", 9, False), ("-4", 0, False), ("x", None, False)],
)
def test_a_number_outside_the_range_opens_the_nearest_inside(text, value, exact):
    assert nearest_number(text, 0, 9, 1) == (value, exact)


def test_a_fraction_stays_a_fraction():
    assert nearest_number("0.7", 0.0, 1.0, 0.1) == (0.7, True)
    assert isinstance(nearest_number("1", 0.0, 1.0, 0.1)[0], float)


@pytest.fixture
def found(monkeypatch, tmp_path):
    """Make `find_runs` return what a test says."""
    found = {}
    monkeypatch.setattr(library, "find_runs", lambda folder: found.get(folder, []))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    return found


def test_the_ladder_stands_first_and_broken_runs_beside_it(found, tmp_path):
    one = tmp_path / "one"
    broken = BrokenRun("B", one / "B", "run.json is damaged.")
    found[one] = [FakeRun("rotation"), FakeRun("E"), FakeRun("zebra"), FakeRun("A"), broken]
    read = read_library((one,))
    assert read.names == ("A", "E", "rotation", "zebra")
    assert read.unusable == (Unusable("B", one / "B", "run.json is damaged."),)


def test_of_two_runs_of_one_name_the_first_is_shown_and_the_other_explained(found, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    found[one], found[two] = [FakeRun("A", folder=one / "A")], [FakeRun("A", folder=two / "A")]
    read = read_library((one, two))
    assert read.run("A").folder == one / "A"
    assert read.unusable[0].folder == two / "A" and "rename" in read.unusable[0].reason


def test_a_folder_that_is_not_there_is_explained(found, tmp_path):
    read = read_library((tmp_path / "nowhere",))
    assert read.names == () and "nowhere" in read.unusable[0].reason


def settings_page() -> None:
    """A script of one page; AppTest runs its source in a file of its own."""
    from types import SimpleNamespace

    import streamlit as st

    from app.view import open_view

    runs = {
        name: SimpleNamespace(
            name=name, steps=(0, 200), ema_steps={0.1: (200,)}, ema_trap=None, weights=list
        )
        for name in "ABE"
    }
    library = SimpleNamespace(names=tuple(runs), run=runs.__getitem__)
    view = open_view("page", library)
    t = view.choice("t", "Timestep", [999, 500, 0], 500)
    share = view.slider("share", "Share", 0.0, 1.0, 0.5, 0.1)
    log = view.toggle("log", "Log", False)
    labels = view.several("labels", "Labels", [0, 1, 2], [0])
    seed = view.number("seed", "Seed", 0, 9, 3, 1)
    st.text(f"{view.run_names} {view.weights} {t} {share:.1f} {log} {labels} {seed}")
    st.text(view.complete().query())
    st.text(" ".join(view.held.notes))


@pytest.fixture
def page():
    return AppTest.from_function(settings_page, default_timeout=60)


def texts(page: AppTest) -> list[str]:
    assert not page.exception
    return [text.value for text in page.text]


def test_an_empty_link_is_completed_with_every_default(page):
    shown, link, notes = texts(page.run())
    assert shown == "('A', 'B', 'E') ema-0.100 500 0.5 False [0] 3"
    assert link == "runs=A,B,E&weights=ema-0.100&t=500&share=0.5&log=0&labels=0&seed=3"
    assert notes == ""


def test_a_change_by_the_user_is_written_into_the_link_with_everything_else(page):
    page.run()
    page.toggle(key="page/log").set_value(True).run()
    assert page.query_params["log"] == "1" and page.query_params["runs"] == "A,B,E"
    page.selectbox(key="page/t").set_value(0).run()
    page.multiselect(key="page/labels").set_value([]).run()
    shown, link, _ = texts(page)
    assert shown == "('A', 'B', 'E') ema-0.100 0 0.5 True [] 3"
    assert link == "runs=A,B,E&weights=ema-0.100&t=0&share=0.5&log=1&labels=&seed=3"
    assert page.query_params["t"] == "0" and page.query_params["labels"] == ""


def test_a_stale_link_of_a_fast_click_does_not_undo_the_click_before(page):
    page.run()
    before = dict(page.query_params)
    page.toggle(key="page/log").set_value(True).run()
    page.query_params = before  # the browser had not heard of the change yet
    page.number_input(key="page/seed").set_value(4).run()
    assert texts(page)[0].endswith("True [0] 4")


def test_an_impossible_link_is_mended_and_told_until_the_user_changes_something(page):
    for name, text in {"runs": "A,Q", "t": "510", "share": "x", "labels": "1,7", "z": "1"}.items():
        page.query_params[name] = text
    shown, link, notes = texts(page.run())
    assert shown == "('A',) ema-0.100 500 0.5 False [1] 3"
    assert link == "runs=A&weights=ema-0.100&t=500&share=0.5&log=0&labels=1&seed=3"
    for words in ("called Q", "t = 510", "share = x", "labels = 1,7", "no setting called z"):
        assert words in notes
    assert texts(page.run())[2] == notes
    page.toggle(key="page/log").set_value(True).run()
    assert texts(page)[2] == ""


def test_a_link_that_the_session_never_wrote_is_followed(page):
    page.run()
    page.query_params["runs"] = "E"
    assert texts(page.run())[0].startswith("('E',)")


def test_a_run_that_goes_on_after_a_change_does_not_undo_it():
    """Streamlit starts the next run before the last one has ended."""
    held = Held(settings={"page": {"t": "500"}})
    held.turn = 1
    view = View("page", library=None, runs=(), weights=None, held=held, turn=1)  # pyright: ignore
    view.shown = {"t": "500", "log": "0"}
    held.settings["page"], held.turn = {"t": "0", "log": "0"}, 2
    assert view.complete().settings == {"t": "0", "log": "0"}
    assert held.settings["page"] == {"t": "0", "log": "0"}


def test_going_back_to_an_address_that_was_never_completed_shows_its_defaults():
    held = Held(runs=("A",), weights="initial", settings={"page": {"t": "0"}})
    _adopt(held, "page", read_link({"runs": "A"}), back=True)
    assert (held.runs, held.weights, held.settings["page"]) == (("A",), None, {})
    held.weights = "initial"
    _adopt(held, "page", read_link({}), back=False)
    assert (held.runs, held.weights) == (("A",), "initial")
