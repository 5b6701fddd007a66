"""The colours of the page, and whether it moves, are as the visitor's system has them."""

import pytest

from tests.e2e.browser.page import RECORD, answer_to, assert_bars_show, colour, contrast

pytestmark = pytest.mark.slow


def test_the_colours_follow_the_system_and_can_be_told_apart(browser, address):
    grounds = []
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(address)
        page.get_by_role("button", name="Sample: apple").click()
        page.wait_for_selector(".fill:not(.first)")
        card, track = colour(page, ".card", "backgroundColor"), colour(page, ".track", "fill")
        for text in (
            colour(page, "#address", "color", "::placeholder"),
            colour(page, ".drop", "color"),
            colour(page, "figcaption", "color"),
        ):
            assert contrast(text, card) >= 4.5
        for bar in (".first", ".fill:not(.first)"):
            assert contrast(colour(page, bar, "fill"), track) >= 3
        assert page.evaluate("getComputedStyle(document.getElementById('address'), '::placeholder').opacity") == "1"
        grounds.append(sum(colour(page, "body", "backgroundColor")))
        page.close()
    assert grounds[0] > 600 > 150 > grounds[1]


def test_reduced_motion_is_respected(browser, address):
    page = browser.new_page(reduced_motion="reduce", viewport={"width": 390, "height": 500})
    page.goto(address)
    page.evaluate(RECORD)
    answer = answer_to(page, lambda: page.get_by_role("button", name="Sample: apple").click())
    assert_bars_show(page, answer)
    assert len({round(share, 3) for share in page.evaluate("window.shares")} - {0}) == 1
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    page.close()
