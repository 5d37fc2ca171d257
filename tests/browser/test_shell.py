"""The shipped dashboard as a whole: what every page must hold, whatever runs there are."""

import pytest
from playwright.sync_api import Page, expect
from servers import listed_pages, settle

pytestmark = pytest.mark.browser
PAGES = listed_pages()


def widest(page: Page) -> int:
    """How far the page reaches to the right, in pixels."""
    return page.evaluate("document.documentElement.scrollWidth")


def test_there_are_pages_to_check():
    assert "runs" in PAGES


def test_a_broken_run_is_listed_with_its_reason_and_the_others_are_shown(
    dashboard, visit, ten_runs
):
    page = visit(dashboard(ten_runs).url)
    expect(page.get_by_text("is not readable JSON").first).to_be_visible()
    expect(page.get_by_text("One folder is not shown").first).to_be_visible()
    expect(page.get_by_text("scale-gate-rotation").first).to_be_visible()


def test_the_window_has_its_own_title_and_no_button_of_the_framework(dashboard, visit, ten_runs):
    page = visit(dashboard(ten_runs).url)
    expect(page).to_have_title("Runs · MP-DiT Explorer")
    for foreign in ("stDeployButton", "stAppDeployButton", "stMainMenu", "stFooter"):
        expect(page.get_by_test_id(foreign)).to_have_count(0)
    assert page.get_by_text("Made with Streamlit").count() == 0


@pytest.mark.parametrize("path", PAGES)
def test_a_page_shows_no_traceback_for_a_run_without_averages(dashboard, visit, one_run, path):
    page = visit(f"{dashboard(one_run).url}/{path}")
    words = page.inner_text("body")
    assert "Traceback" not in words and "unexpected happened" not in words


@pytest.mark.parametrize("path", PAGES)
def test_a_page_without_any_chosen_run_says_what_to_do(dashboard, visit, one_run, path):
    page = visit(f"{dashboard(one_run).url}/{path}?runs=")
    assert "unexpected happened" not in page.inner_text("body")
    if path != "runs":
        expect(page.get_by_text("No run is chosen")).to_be_visible()


@pytest.mark.parametrize("width", [390, 1024])
@pytest.mark.parametrize("path", PAGES)
def test_nothing_reaches_beyond_the_screen(dashboard, visit, one_run, path, width):
    page = visit(f"{dashboard(one_run).url}/{path}", width=width)
    assert widest(page) <= width


def test_an_empty_folder_says_how_to_get_a_run(dashboard, visit, tmp_path_factory):
    page = visit(dashboard(tmp_path_factory.mktemp("empty")).url)
    expect(page.get_by_text("mpdit train").first).to_be_visible()


def test_a_run_that_appears_while_the_dashboard_is_open_is_found(
    dashboard, visit, tmp_path_factory
):
    from small_runs import ladder, write_run

    folder = tmp_path_factory.mktemp("growing")
    write_run(folder, "first", ladder()["A"])
    page = visit(dashboard(folder).url)
    write_run(folder, "second", ladder()["E"])
    page.reload()
    settle(page)
    expect(page.get_by_text("second").first).to_be_visible()
