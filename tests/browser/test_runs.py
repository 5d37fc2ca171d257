"""The page Runs in a real browser: the table, its order, the curves, a broken run."""

import re

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


def rows(page):
    """Names of the runs in the order of the table."""
    names = page.locator('[data-testid="runs-table"] tr.first td:first-child')
    expect(names.first).to_be_visible()
    return names.all_inner_texts()


def test_the_table_shows_flags_numbers_and_curves_of_every_run(visit, dashboard, five_runs):
    page = visit(dashboard(five_runs).url + "/runs")
    assert rows(page) == list("ABCDE")
    table = page.locator('[data-testid="runs-table"]')
    ticks = [
        row.locator("td.flag", has_text="✓").count() for row in table.locator("tr.first").all()
    ]
    assert ticks == [0, 1, 2, 3, 8]
    assert table.locator("td.number b").count() >= 2  # the best of each measure
    align = table.locator("td.number").first.evaluate("cell => getComputedStyle(cell).textAlign")
    assert align == "right"
    expect(page.get_by_text("what differs most is the held-out loss")).to_be_visible()
    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible()
    names = page.evaluate(
        "() => document.querySelector('.js-plotly-plot')._fullData.map(t => [t.name, t.line.width])"
    )
    assert names == [[name, width] for name in "ABCDE" for width in (1, 3)]


def test_sorting_is_kept_in_the_link(visit, dashboard, five_runs):
    page = visit(dashboard(five_runs).url + "/runs?sort=train_loss")
    # The made-up log of A ends lowest of B to E (see small_runs): 65 % 5 is 0, 66 % 5 is 1, ...
    assert rows(page) == list("ABCDE")
    page = visit(dashboard(five_runs).url + "/runs?sort=parameters")
    assert rows(page)[0] == "E"  # the table of timesteps is learned
    expect(page).to_have_url(re.compile("sort=parameters"))


def test_marks_and_samples_are_a_button_that_says_what_it_costs(visit, dashboard, five_runs):
    page = visit(dashboard(five_runs).url + "/runs")
    cost = re.compile(r"Sample six images of each of 5 runs, about \d+ (s|min)")
    expect(page.get_by_role("button", name=cost)).to_be_visible()
    judge = re.compile(r"Judge 1,080 samples of each of 5 runs, about \d+ (s|min)")
    expect(page.get_by_role("button", name=judge)).to_be_visible()
    assert page.locator('[data-testid="runs-table"]').get_by_text("not sampled yet").count() == 5


def test_a_broken_run_is_named_with_its_reason_and_the_others_are_shown(visit, dashboard, ten_runs):
    page = visit(dashboard(ten_runs).url + "/runs")
    assert len(rows(page)) == 10
    expect(page.get_by_text("broken is not shown")).to_be_visible()
    expect(page.get_by_text("run.json is not readable JSON")).to_be_visible()


def test_one_run_without_averages_is_shown_and_fits_a_phone(visit, dashboard, one_run):
    page = visit(dashboard(one_run).url + "/runs", width=390)
    assert rows(page) == ["mine"]
    expect(page.get_by_text("at least two with a log can differ")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
