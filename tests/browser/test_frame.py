"""The frame in a real Chromium: the link, Back, two people, long work, failures."""

import re

import pytest
from conftest import DEMO, settle
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


def answered(page, text: str) -> None:
    expect(page.get_by_text(text)).to_be_visible()


def test_the_address_holds_the_whole_view_without_a_step_of_its_own(dashboard, visit, five_runs):
    page = visit(dashboard(five_runs, DEMO).url)
    expect(page).to_have_url(
        re.compile(r"/\?runs=A,B,C,D,E&weights=ema-0.100&t=500&branch=attn&share=0.5&log=0")
    )
    assert page.evaluate("history.length") == 2  # about:blank and this page
