"""What the page shows of a prediction's reasons."""

import re

import pytest
from playwright.sync_api import expect

from cifar_flax.serving.web.heat_map import FAINTEST
from tests.e2e.browser.page import answer_to, assert_bars_show, hold, readable, wait_until

pytestmark = pytest.mark.slow
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def test_a_bar_is_chosen_by_keyboard_or_click_and_explained(visit):
    page = visit.page
    answer = answer_to(page, lambda: page.get_by_role("button", name="Sample: apple").click())
    names, explanation = [p["class"] for p in answer["predictions"]], page.locator("#explanation")
    expect(explanation).to_contain_text(f"What the network looked at for {readable(names[0])}:")
    assert page.evaluate("document.getElementById('heat').naturalWidth") == 320
    bars = page.get_by_role("radio", name=re.compile("%$"))
    bars.first.focus()
    page.keyboard.press("ArrowDown")
    expect(explanation).to_contain_text(f"for {readable(names[1])}:")
    expect(bars.nth(1)).to_be_focused()
    page.wait_for_timeout(800)  # until the bars are where they go
    bars.nth(3).click()
    expect(explanation).to_contain_text(f"for {readable(names[3])}:")
    assert bars.evaluate_all("bars => bars.map(bar => bar.ariaChecked)") == ["false", "false", "false", "true", "false"]
    page.get_by_text("By gradient").click()
    expect(explanation).to_contain_text("its score changes most")
    heat, caption = page.locator("#heat").bounding_box(), explanation.bounding_box()
    assert heat["y"] + heat["height"] <= caption["y"] or heat["x"] + heat["width"] <= caption["x"]  # no overlap


def test_a_failed_explanation_leaves_the_prediction(visit):
    page = visit.page
    busy = {"error": {"code": "busy", "message": "The server is busy. Please try again in a moment."}}
    page.route("**/api/explain**", lambda route: route.fulfill(status=503, json=busy))
    answer = answer_to(page, lambda: page.get_by_role("button", name="Sample: apple").click())
    expect(page.locator("#explanation")).to_have_text("The server is busy. Please try again in a moment.")
    assert_bars_show(page, answer)
    expect(page.locator("#heat")).to_be_hidden()
    visit.errors.clear()  # the browser itself notes it


def test_a_failed_explanation_is_tried_again_by_a_click_on_the_same_bar(visit):
    page = visit.page
    page.route("**/api/explain**", lambda route: route.abort())
    answer = answer_to(page, lambda: page.get_by_role("button", name="Sample: apple").click())
    expect(page.locator("#explanation")).to_have_text("The server cannot be reached.")
    page.unroute("**/api/explain**")
    visit.errors.clear()  # the browser itself notes it
    asked = []
    page.on("request", lambda request: "/api/explain" in request.url and asked.append(request))
    bar = page.get_by_role("radio", name=re.compile("%$")).first
    release = hold(page, "**/api/explain**", bar.click)
    bar.press("Enter")  # while the answer is on its way
    release()
    expect(page.locator("#explanation")).to_contain_text(f"looked at for {readable(answer['predictions'][0]['class'])}:")
    assert len(asked) == 1


def test_a_picture_is_explained_anew_where_the_one_before_was_asked_about_meanwhile(visit):
    page, held, asked = visit.page, [], []
    answer = answer_to(page, lambda: page.get_by_role("button", name="Sample: apple").click())
    expect(page.locator("#explanation")).to_contain_text("What the network looked at")
    page.route("**/api/predict**", lambda route: held.append(route))  # noqa: PLW0108 # it takes no builtin
    page.get_by_role("button", name="Sample: rocket").click()
    page.route("**/api/explain**", lambda route: asked.append(route))  # noqa: PLW0108
    page.get_by_text("By gradient").click()
    wait_until(page, lambda: held and asked)
    with page.expect_request("**/api/explain**"):  # of the new picture, though class and method are those of the last
        held[0].fulfill(json=answer)
    expect(page.locator("#explanation")).to_have_text("Finding out what the network looked at…")
    asked[-1].continue_()
    expect(page.locator("#explanation")).to_contain_text("its score changes most")


def test_an_explanation_of_many_pixels_is_shown(visit):
    page, side = visit.page, 512
    answer = {"class": "x", "method": "saliency", "values": [[0.0] * side] * side, "heat_map": PIXEL}
    page.route("**/api/explain**", lambda route: route.fulfill(json=answer))
    page.get_by_role("button", name="Sample: apple").click()
    expect(page.locator("#explanation")).to_contain_text("its score changes most")


@pytest.mark.parametrize(
    ("lost", "shown"),
    [
        (0.9 * FAINTEST, "nothing in particular"),
        (0.02, "makes it less certain, by up to 2.0 percentage points"),
    ],
)
def test_an_explanation_by_covering_says_what_that_costs_at_most(visit, lost, shown):
    answer = {"class": "x", "method": "occlusion", "values": [[-0.5, lost]], "heat_map": PIXEL}
    visit.page.route("**/api/explain**", lambda route: route.fulfill(json=answer))
    visit.page.get_by_role("button", name="Sample: apple").click()
    expect(visit.page.locator("#explanation")).to_contain_text(shown)
