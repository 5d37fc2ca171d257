"""The frame in a real Chromium: the link, Back, two people, long work, failures."""

import re

import pytest
from playwright.sync_api import Page, expect
from servers import DEMO, choose, drawn, settle

pytestmark = pytest.mark.browser

CONTROLS = "t=500 branch=attn share=0.5 log=False labels=[0, 1] run=E"


@pytest.fixture
def demo(dashboard, five_runs):
    return dashboard(five_runs, DEMO)


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def shown(page: Page, text: str) -> None:
    expect(page.get_by_text(text).first).to_be_visible()


def test_the_address_holds_the_whole_view_and_costs_no_step_of_history(demo, visit):
    page = visit(demo.url)
    expect(page).to_have_url(
        re.compile(r"/\?runs=A,B,C,D,E&weights=ema-0\.100&t=500&branch=attn&share=0\.5&log=0")
    )
    assert page.evaluate("history.length") == 2  # about:blank and this page


def test_a_link_opens_the_same_view_for_someone_else(demo, visit):
    page = visit(demo.url + "/?runs=A,E&weights=step-200&t=250&branch=mlp&share=0.7&log=1&run=A")
    shown(page, "t=250 branch=mlp share=0.7 log=True labels=[0, 1] run=A")
    shown(page, "runs=A,E weights=step-200")
    choose(page, "Weights", "initial")
    page.get_by_role("radio", name="attn").or_(page.get_by_text("attn", exact=True)).first.click()
    shown(page, "t=250 branch=attn share=0.7 log=True labels=[0, 1] run=A")
    settle(page)
    again = visit(page.url)
    shown(again, "t=250 branch=attn share=0.7 log=True labels=[0, 1] run=A")
    shown(again, "runs=A,E weights=initial")


def test_an_impossible_link_opens_the_nearest_view_and_says_what_it_left_out(demo, visit):
    page = visit(demo.url + "/?runs=A,Z&weights=step-290&t=300&branch=foo&share=7&colour=red")
    shown(page, "t=250 branch=attn share=1.0")
    shown(page, "runs=A weights=step-200")
    for sentence in (
        "There is no run called Z here; shown: A.",
        "No run shown has the weights 'step-290'; step 200 shown instead.",
        "t = 300 is not possible here; 250 is shown instead.",
        "branch = foo is not possible here; attn is shown instead.",
        "share = 7 is not possible here; 1.0 is shown instead.",
        "This page has no setting called colour; the link names it.",
    ):
        shown(page, sentence)
    expect(page).to_have_url(re.compile(r"runs=A&weights=step-200&t=250"))
    choose(page, "Weights", "final")
    expect(page.get_by_text("There is no run called Z")).to_have_count(0)


def test_back_undoes_one_change_and_one_page_at_a_time(demo, visit):
    page = visit(demo.url + "/?runs=A,E")
    choose(page, "Weights", "initial")
    shown(page, "weights=initial")
    page.get_by_text("Logarithmic").click()
    shown(page, "log=True")
    settle(page)
    page.get_by_role("link", name="Long work").click()
    shown(page, "What does a page do while it computes?")
    settle(page)
    expect(page).to_have_url(re.compile(r"/long\?runs=A,E&weights=initial&seed=0"))
    page.go_back()
    shown(page, "log=True")
    settle(page)
    page.go_back()
    shown(page, "log=False")
    shown(page, "runs=A,E weights=initial")
    settle(page)
    page.go_back()
    shown(page, "runs=A,E weights=ema-0.100")
    settle(page)
    page.go_forward()
    shown(page, "runs=A,E weights=initial")


def test_going_back_faster_than_the_server_answers_is_no_new_change(demo, visit):
    page = visit(demo.url + "/?runs=A,E&log=0")
    page.get_by_text("Logarithmic").click()
    shown(page, "log=True")
    page.get_by_text("mlp", exact=True).click()
    shown(page, "branch=mlp")
    page.evaluate("history.back(); setTimeout(() => history.back(), 30)")
    shown(page, "branch=attn share=0.5 log=False")
    settle(page)
    expect(page).to_have_url(re.compile("branch=attn.*log=0"))
    page.evaluate("history.forward(); setTimeout(() => history.forward(), 30)")
    shown(page, "branch=mlp share=0.5 log=True")


def test_runs_and_weights_stay_on_the_way_to_another_page_and_settings_on_return(demo, visit):
    page = visit(demo.url + "/?runs=A,E&t=0")
    shown(page, "t=0")
    page.get_by_role("link", name="Long work").click()
    shown(page, "10 rows")
    expect(page).to_have_url(re.compile(r"/long\?runs=A,E&weights=ema-0\.100"))
    page.get_by_role("link", name="Controls").click()
    shown(page, "t=0 branch")


def test_clicks_faster_than_the_server_answers_are_all_kept(demo, visit):
    page = visit(demo.url + "/?runs=A,E")
    page.get_by_text("Logarithmic").click()
    page.get_by_text("mlp", exact=True).click()
    page.get_by_role("slider", name="Share").first.press("ArrowRight")
    shown(page, "branch=mlp share=0.6 log=True")
    settle(page)
    shown(page, "branch=mlp share=0.6 log=True")
    expect(page).to_have_url(re.compile(r"branch=mlp&share=0\.6&log=1"))


def test_two_people_do_not_disturb_each_other(demo, visit):
    one, other = visit(demo.url + "/?runs=A"), visit(demo.url + "/?runs=E&log=1")
    choose(one, "Weights", "initial")
    shown(one, "runs=A weights=initial")
    other.get_by_text("mlp", exact=True).click()
    shown(other, "branch=mlp share=0.5 log=True labels=[0, 1] run=E")
    shown(other, "runs=E weights=ema-0.100")


def test_any_width_of_average_can_be_asked_for(demo, visit):
    page = visit(demo.url + "/?runs=E")
    choose(page, "Weights", "EMA of another width")
    width = (
        page.get_by_role("spinbutton", name="sigma_rel")
        .or_(page.locator("input[aria-label='sigma_rel']"))
        .first
    )
    width.fill("0.15")
    width.press("Enter")
    shown(page, "runs=E weights=ema-0.150")
    expect(page).to_have_url(re.compile(r"weights=ema-0\.150"))


def test_long_work_shows_progress_and_the_result_is_there_on_return(demo, visit):
    page = visit(demo.url + "/long?runs=A,E&steps=100&seed=1&place=4")
    shown(page, "Computing: waiting of A and E.")
    shown(page, "s left")
    page.get_by_role("link", name="Controls").click()
    shown(page, CONTROLS)
    page.get_by_role("link", name="Long work").click()
    shown(page, "10 rows, place 4.")  # a setting that only exists with the result was kept
    expect(page.locator(".js-plotly-plot")).to_be_visible()


def test_two_who_ask_the_same_share_one_job_and_one_who_leaves_does_not_stop_it(demo, visit):
    one = visit(demo.url + "/long?runs=A,E&steps=300&seed=2")
    other = visit(demo.url + "/long?runs=A,E&steps=300&seed=2")
    shown(one, "Computing")
    shown(other, "Computing")
    press(one, "Cancel")
    shown(one, "Stopped: waiting of A and E.")
    shown(other, "10 rows")


def test_cancel_stops_within_two_seconds_and_the_button_starts_again(demo, visit):
    page = visit(demo.url + "/long?runs=A,E&steps=100&seed=3")
    shown(page, "Computing")
    press(page, "Cancel")
    shown(page, "Stopped: waiting of A and E.")
    settle(page)
    choose(page, "Steps", "1")
    shown(page, "10 rows")  # a place is free again: the stopped job no longer computes
    choose(page, "Steps", "100")
    shown(page, "Stopped")
    press(page, "Wait, about 10 s")
    shown(page, "Computing")
    press(page, "Cancel")


def test_expensive_work_waits_for_a_button_that_says_its_cost(demo, visit):
    page = visit(demo.url + "/long?runs=A,E&steps=20&seed=4&button=1")
    shown(page, "Not computed yet: waiting of A and E.")
    press(page, "Wait, about 10 s")
    shown(page, "10 rows")


def test_a_failure_is_one_sentence_with_retry(demo, visit):
    page = visit(demo.url + "/long?runs=A&fails=kindly&seed=5")
    shown(page, "A: The held-out images are missing; run make checkpoints.")
    press(page, "Retry")
    shown(page, "A: The held-out images are missing; run make checkpoints.")


def test_an_unexpected_failure_gives_an_id_that_the_log_explains(demo, visit):
    page = visit(demo.url + "/long?runs=A&fails=badly&seed=6")
    sentence = page.get_by_text("the server's log has it as").first
    expect(sentence).to_be_visible()
    name = re.search(r"as (\w{8})\.", sentence.inner_text())
    assert name and name[1] in demo.log
    assert "ZeroDivisionError: a bug" in demo.log
    assert "ZeroDivisionError: a bug" not in page.inner_text("body")


def test_a_bug_of_a_page_is_one_sentence_too_and_the_rest_works(demo, visit):
    page = visit(demo.url + "/?runs=A&bug=1")
    shown(page, "the server's log has it as")
    assert "Traceback" in demo.log and "Traceback" not in page.inner_text("body")
    page.get_by_role("link", name="Long work").click()
    shown(page, "5 rows")


def test_a_figure_tells_how_it_was_computed_and_gives_its_files(demo, visit):
    page = visit(demo.url + "/long?runs=A,E&seed=7")
    page.get_by_text("How this was computed").click()
    shown(page, "Analysis waiting, version 1: steps 1, seed 7.")
    shown(page, f"{demo.url}/long?runs=A,E&weights=ema-0.100&seed=7")
    with page.expect_download() as csv:
        press(page, "CSV")
    lines = csv.value.path().read_text().splitlines()
    assert lines[0] == "run,weights,x,y" and len(lines) == 11
    with page.expect_download() as html:
        press(page, "HTML")
    text = html.value.path().read_text()
    assert "Rows by step" in text and "cdn.plot.ly" not in text.split("<script")[1][:200]


def test_what_a_figure_draws_is_the_table(demo, visit):
    page = visit(demo.url + "/long?runs=A,E&seed=8")
    lines = [(line["name"], line["colour"], line["y"]) for line in drawn(page)]
    assert lines == [("A", "#8a8a8a", [0, 1, 2, 3, 4]), ("E", "#a475e2", [0, 1, 2, 3, 4])]


def test_the_place_of_a_figure_has_its_height_while_it_is_computed(demo, visit):
    page = visit(demo.url + "/long?runs=A,E&steps=100&seed=9")
    card = page.get_by_test_id("stVerticalBlock").filter(has_text="Computing").last
    height = card.bounding_box()["height"]
    shown(page, "10 rows")
    chart = page.locator(".js-plotly-plot").bounding_box()["height"]
    assert abs(height - chart) < 40, (height, chart)


def test_the_first_page_has_an_address_of_its_own_and_back_finds_it(demo, visit):
    page = visit(demo.url + "/controls?runs=A&log=1")
    shown(page, "log=True")
    expect(page).to_have_url(re.compile(r"/controls\?runs=A&weights=ema-0\.100&t=500"))
    page.get_by_role("link", name="Long work").click()
    shown(page, "5 rows")
    page.go_back()
    shown(page, "log=True")


def test_an_address_of_no_page_opens_the_nearest_and_says_so(demo, visit):
    page = visit(demo.url + "/lonk?runs=A")
    shown(page, "There is no page called lonk. Long work is shown instead.")
    shown(page, "5 rows")
    expect(page.get_by_role("dialog")).to_have_count(0)
    choose(page, "Steps", "20")
    shown(page, "5 rows")
    expect(page).to_have_url(re.compile(r"/lonk\?runs=A&.*steps=20"))


def test_a_part_of_a_page_is_drawn_alone_and_its_control_is_in_the_link(demo, visit):
    page = visit(demo.url + "/?runs=A&zoom=2")
    shown(page, "zoom=2")
    drawn_at = page.get_by_text("drawn=").inner_text()
    page.get_by_role("slider", name="Zoom").first.press("ArrowRight")
    shown(page, "zoom=3")
    settle(page)
    assert page.get_by_text("drawn=").inner_text() == drawn_at
    expect(page).to_have_url(re.compile(r"runs=A&.*zoom=3"))
    page.get_by_text("Logarithmic").click()
    shown(page, "log=True")
    shown(page, "zoom=3")
    page.go_back()
    shown(page, "log=False")
    page.go_back()
    shown(page, "zoom=2")


def test_an_address_completed_late_does_not_undo_what_the_user_did_meanwhile(demo, visit):
    page = visit(demo.url + "/?runs=A&zoom=2")
    page.get_by_role("slider", name="Zoom").first.press("ArrowRight")
    expect(page).to_have_url(re.compile("zoom=3"))
    page.get_by_text("Logarithmic").click()  # the whole page is drawn, the address completed again
    shown(page, "log=True")
    settle(page)
    page.wait_for_timeout(1000)
    expect(page).to_have_url(re.compile(r"runs=A&.*log=1.*zoom=3"))
