"""The shipped dashboard as a whole: what every page must hold, whatever runs there are."""

import re

import pytest
from playwright.sync_api import Page, expect
from servers import listed_pages, page_titles, settle

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
def test_a_page_of_a_run_without_averages_has_no_traceback_and_fits_every_screen(
    dashboard, visit, one_run, path
):
    page = visit(f"{dashboard(one_run).url}/{path}", width=390)
    assert widest(page) <= 390
    page.set_viewport_size({"width": 1024, "height": 900})
    settle(page)
    assert widest(page) <= 1024
    words = page.inner_text("body")
    assert "Traceback" not in words and "unexpected happened" not in words


def test_pages_without_any_chosen_run_say_what_to_do(dashboard, visit, one_run):
    page = visit(f"{dashboard(one_run).url}/{PAGES[0]}?runs=")
    for path in PAGES[1:]:
        page.get_by_role("link", name=page_titles()[path], exact=True).click()
        expect(page).to_have_url(re.compile(rf"/{path}\?runs=&"))
        settle(page)
        expect(page.get_by_text("No run is chosen")).to_be_visible()
        assert "unexpected happened" not in page.inner_text("body")


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
