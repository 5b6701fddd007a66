"""The page of the demo, in a real browser."""

import base64
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from benchmarks.photographs import PHOTOGRAPHS
from cifar_flax.files.checksum import dumps_checksummed, read_checksummed
from tests.e2e.conftest import serving
from tests.e2e.page import RECORD, answer_to, assert_bars_show, colour, contrast, hold

pytestmark = pytest.mark.slow
FLAGS = [
    "--headless",
    "--no-sandbox",  # which containers and root do without
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
CLASSES = (
    "<img src=x onerror=document.title='owned'>",
    "a_name_that_is_much_too_long_for_any_telephone_and_most_tables",
    *(f"line_{k}" for k in range(2, 10)),
)
COARSE = ("large_man-made_outdoor_things_and_more", "<script>document.title='owned'</script>")


@pytest.fixture(scope="module")
def browser(chromium):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tiny_run, tmp_path_factory):
    """A server whose classes have names that no page should choke on."""
    run = tmp_path_factory.mktemp("named") / "tiny"
    shutil.copytree(tiny_run, run)
    dataset = read_checksummed(run / "dataset.json")
    dataset.update(class_names=CLASSES, coarse_names=COARSE, coarse_of_fine=[0] * 5 + [1] * 5)
    (run / "dataset.json").write_text(dumps_checksummed(dataset))
    with serving(f"--run={run}", "--allow_private") as (_, url):
        yield url


@pytest.fixture(params=[(1280, 860), (500, 900), (390, 844)], ids=["desktop", "narrow", "telephone"])
def visit(request, browser, address):
    """The page at three sizes. Afterwards it must have made no errors, no requests elsewhere, and no horizontal scroll bar."""
    width, height = request.param
    context = browser.new_context(viewport={"width": width, "height": height})
    page, seen = context.new_page(), SimpleNamespace(requests=[], errors=[])
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("console", lambda message: message.type in ("error", "warning") and seen.errors.append(message.text))
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.goto(address)
    yield SimpleNamespace(page=page, errors=seen.errors)
    assert seen.errors == []
    assert seen.requests
    assert [url for url in seen.requests if not url.startswith((address, "data:", "blob:"))] == []
    assert page.title() == "What is in the picture?"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()


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


def readable(name):
    return name.replace("_", " ")


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
    release, asked = hold(page, "**/api/explain**"), []
    page.on("request", lambda request: "/api/explain" in request.url and asked.append(request))
    bar = page.get_by_role("radio", name=re.compile("%$")).first
    with page.expect_request("**/api/explain**"):
        bar.click()
    bar.press("Enter")  # while the answer is on its way
    release()
    expect(page.locator("#explanation")).to_contain_text(f"looked at for {readable(answer['predictions'][0]['class'])}:")
    assert len(asked) == 1


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


def test_an_error_takes_the_old_answer_away(visit, tmp_path):
    page = visit.page
    answer_to(page, lambda: page.get_by_role("button", name="Sample: apple").click())
    expect(page.locator("#result")).to_be_visible()
    (tmp_path / "a.png").write_text("no picture")
    page.get_by_label("Choose a file").set_input_files(tmp_path / "a.png")
    expect(page.get_by_role("alert")).to_contain_text("not a picture")
    expect(page.locator("#result")).to_be_hidden()
    expect(page.locator("#empty")).to_be_visible()
    answer = answer_to(page, lambda: page.get_by_role("button", name="Sample: rocket").click())
    assert_bars_show(page, answer)
    visit.errors.clear()


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
    page, release = visit.page, hold(visit.page, "**/api/predict**")
    page.get_by_role("button", name="Sample: apple").click()
    expect(page.get_by_role("status")).to_have_text("Looking at the picture…")
    muted = page.evaluate("document.querySelector('[role=status]').closest('[aria-busy=true]')")
    assert muted is None
    release()
    expect(page.get_by_role("status")).to_contain_text("Most likely")


def test_the_last_click_counts(visit):
    page, release = visit.page, hold(visit.page, "**/apple.png")
    page.get_by_role("button", name="Sample: apple").click()
    answer = answer_to(page, lambda: page.get_by_role("button", name="Sample: rocket").click())
    assert_bars_show(page, answer)
    release()
    page.wait_for_timeout(500)
    assert page.locator("#preview").get_attribute("title") == "rocket"
    assert_bars_show(page, answer)


def test_a_complaint_is_not_replaced_by_an_answer_that_comes_later(visit, tmp_path):
    page, release = visit.page, hold(visit.page, "**/api/predict**")
    page.get_by_role("button", name="Sample: apple").click()
    (tmp_path / "b.png").write_bytes(bytes(11 * 2**20))
    page.get_by_label("Choose a file").set_input_files(tmp_path / "b.png")
    expect(page.get_by_role("alert")).to_have_text("The file is too large. At most 10 MB are taken.")
    release()
    page.wait_for_timeout(500)
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.locator("#result")).to_be_hidden()
    assert page.locator("#answer").get_attribute("aria-busy") == "false"


def test_an_explanation_of_many_pixels_is_shown(visit):
    page, side = visit.page, 512
    pixel = (
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
    answer = {"class": "x", "method": "saliency", "values": [[0.0] * side] * side, "heat_map": pixel}
    page.route("**/api/explain**", lambda route: route.fulfill(json=answer))
    page.get_by_role("button", name="Sample: apple").click()
    expect(page.locator("#explanation")).to_contain_text("its score changes most")


@pytest.mark.parametrize("fail", ["abort", "fulfill"])
def test_a_sample_that_cannot_be_had_gets_a_clear_message(visit, fail):
    page = visit.page
    page.route("**/apple.png", lambda route: route.abort() if fail == "abort" else route.fulfill(status=502, body="no"))
    page.get_by_role("button", name="Sample: apple").click()
    expect(page.get_by_role("alert")).to_have_text("The server cannot be reached.")
    expect(page.get_by_role("status")).to_be_empty()
    visit.errors.clear()  # the browser itself notes it


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("ftp://example.org/a.png", "http"),
        ("http://no.such.host.invalid/", "no.such.host.invalid"),
        ("not an address", "address"),
    ],
)
def test_a_bad_address_gets_a_clear_message(visit, typed, message):
    page = visit.page
    page.get_by_label("Address of a picture").fill(typed)
    answer = answer_to(page, lambda: page.get_by_role("button", name="Classify").click())
    alert = page.get_by_role("alert")
    expect(alert).to_be_visible()
    expect(alert).to_have_text(answer["error"]["message"])
    expect(alert).to_contain_text(message)
    field = page.get_by_label("Address of a picture")
    expect(field).to_have_attribute("aria-invalid", "true")
    assert [error for error in visit.errors if "the server responded with a status of 4" not in error] == []
    visit.errors.clear()  # the browser itself notes every 4xx

    page.get_by_role("button", name="Sample: rocket").click()
    expect(alert).to_be_hidden()
    expect(field).to_have_attribute("aria-invalid", "false")
    page.wait_for_selector("g.bar")


def test_a_file_that_is_no_picture_gets_a_clear_message(visit, tmp_path):
    (tmp_path / "a.png").write_text("<script>document.title='owned'</script>")
    visit.page.get_by_label("Choose a file").set_input_files(tmp_path / "a.png")
    expect(visit.page.get_by_role("alert")).to_contain_text("not a picture")
    expect(visit.page.get_by_label("Address of a picture")).to_have_attribute("aria-invalid", "false")
    (tmp_path / "b.png").write_bytes(bytes(11 * 2**20))
    visit.page.get_by_label("Choose a file").set_input_files(tmp_path / "b.png")
    expect(visit.page.get_by_role("alert")).to_have_text("The file is too large. At most 10 MB are taken.")
    visit.errors.clear()


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
