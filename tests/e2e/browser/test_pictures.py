"""How a visitor gives the page a picture, and the bars that follow."""

import base64

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from benchmarks.photographs import PHOTOGRAPHS
from tests.e2e.browser.conftest import COARSE
from tests.e2e.browser.page import RECORD, answer_to, assert_bars_show, hold, readable

pytestmark = pytest.mark.slow


@pytest.fixture
def photograph(tmp_path):
    path = tmp_path / "rocket.jpg"
    path.write_bytes(PHOTOGRAPHS[0].read())
    return path


def test_an_address_is_typed(visit, web):
    folder, url, requests = web
    (folder / "a.jpg").write_bytes(PHOTOGRAPHS[1].read())
    page = visit.page
    page.keyboard.press("Tab")
    page.keyboard.type(f"{url}/a.jpg")
    answer = answer_to(page, lambda: page.keyboard.press("Enter"))
    assert_bars_show(page, answer)
    expect(page.locator("#preview")).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text("Most likely")
    assert len(requests) == 1
    assert not {"Cookie", "Authorization", "Referer"} & set(requests[0])


def test_files_are_chosen_dropped_and_pasted_and_the_bars_follow(visit, photograph, tmp_path):
    page = visit.page
    answer = answer_to(page, lambda: page.get_by_label("Choose a file").set_input_files(photograph))
    assert_bars_show(page, answer)
    side = page.evaluate("document.getElementById('seen').naturalWidth")
    assert side == 8  # of the network that answers; shown larger
    assert page.locator("#seen").bounding_box()["width"] > 100

    others = []
    for k in range(2):
        array = np.random.default_rng(k).integers(0, 256, (30, 30, 3), dtype=np.uint8)
        Image.fromarray(array).save(tmp_path / f"{k}.png")
        others.append(base64.b64encode((tmp_path / f"{k}.png").read_bytes()).decode())
    send = """([type, data]) => {
      const bytes = Uint8Array.from(atob(data), character => character.charCodeAt(0)), transfer = new DataTransfer();
      transfer.items.add(new File([bytes], "<b>.png", { type: "image/png" }));
      const carried = type === "drop" ? { dataTransfer: transfer } : { clipboardData: transfer };
      const Kind = type === "drop" ? DragEvent : ClipboardEvent;
      document.body.dispatchEvent(new Kind(type, { bubbles: true, cancelable: true, ...carried }));
    }"""
    for type_, data in zip(("drop", "paste"), others, strict=True):
        answer = answer_to(page, lambda type_=type_, data=data: page.evaluate(send, [type_, data]))
        assert_bars_show(page, answer)


def test_a_sample_and_a_bar_are_reached_by_keyboard(visit):
    page = visit.page
    page.get_by_role("button", name="Sample: apple").focus()
    answer = answer_to(page, lambda: page.keyboard.press("Enter"))
    assert_bars_show(page, answer)
    first = answer["predictions"][0]
    page.locator("g.bar").first.focus()
    tip = page.get_by_role("tooltip")
    expect(tip).to_contain_text(f"{first['probability']:.2%}")
    expect(tip).to_contain_text(first["class"].replace("_", " "))
    expect(tip).to_contain_text(first["superclass"].replace("_", " "))
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()


def test_keys_of_the_browser_are_left_to_it(visit):
    page = visit.page
    answer_to(page, lambda: page.get_by_role("button", name="Sample: apple").click())
    press = """([bar, options]) =>
      bar.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft", bubbles: true, cancelable: true, ...options }))"""
    bar = page.locator("g.bar").first.element_handle()
    for modifier in ("altKey", "ctrlKey", "metaKey"):
        assert page.evaluate(press, [bar, {modifier: True}]), f"with {modifier} the page took the key"
        expect(page.locator("g.bar").first).to_have_attribute("aria-checked", "true")
    assert not page.evaluate(press, [bar, {}])
    expect(page.locator("g.bar").first).to_have_attribute("aria-checked", "false")


def test_all_classes_are_listed_when_asked_for(visit):
    page = visit.page
    expect(page.get_by_text("line 9", exact=True)).to_be_hidden()
    page.get_by_text("All 10 classes").click()
    expect(page.get_by_text("line 9", exact=True)).to_be_visible()
    expect(page.get_by_text(readable(COARSE[0]), exact=True)).to_be_visible()


def test_the_first_bars_grow_as_the_later_ones_do(visit):
    page = visit.page
    page.evaluate(RECORD)
    answer = answer_to(page, lambda: page.get_by_role("button", name="Sample: apple").click())
    assert_bars_show(page, answer)
    end = answer["predictions"][0]["probability"]
    between = {round(share, 3) for share in page.evaluate("window.shares") if 0.05 * end < share < 0.95 * end}
    assert len(between) >= 3


def test_waiting_is_announced(visit):
    page = visit.page
    release = hold(page, "**/api/predict**", lambda: page.get_by_role("button", name="Sample: apple").click())
    expect(page.get_by_role("status")).to_have_text("Looking at the picture…")
    muted = page.evaluate("document.querySelector('[role=status]').closest('[aria-busy=true]')")
    assert muted is None
    release()
    expect(page.get_by_role("status")).to_contain_text("Most likely")


def test_the_last_click_counts(visit):
    page = visit.page
    release = hold(page, "**/apple.png", lambda: page.get_by_role("button", name="Sample: apple").click())
    answer = answer_to(page, lambda: page.get_by_role("button", name="Sample: rocket").click())
    assert_bars_show(page, answer)
    release()
    page.wait_for_timeout(500)
    assert page.locator("#preview").get_attribute("title") == "rocket"
    assert_bars_show(page, answer)
