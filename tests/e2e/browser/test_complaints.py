"""What the page says of a picture that it cannot have or classify."""

import pytest
from playwright.sync_api import expect

from tests.e2e.browser.page import answer_to, assert_bars_show, hold

pytestmark = pytest.mark.slow


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


def test_a_complaint_is_not_replaced_by_an_answer_that_comes_later(visit, tmp_path):
    page = visit.page
    release = hold(page, "**/api/predict**", lambda: page.get_by_role("button", name="Sample: apple").click())
    (tmp_path / "b.png").write_bytes(bytes(11 * 2**20))
    page.get_by_label("Choose a file").set_input_files(tmp_path / "b.png")
    expect(page.get_by_role("alert")).to_have_text("The file is too large. At most 10 MB are taken.")
    release()
    page.wait_for_timeout(500)
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.locator("#result")).to_be_hidden()
    assert page.locator("#answer").get_attribute("aria-busy") == "false"


def test_a_file_that_cannot_be_read_is_told_from_a_server_that_is_gone(visit, tmp_path):
    page = visit.page
    (tmp_path / "a.png").write_bytes(b"there for a moment")
    page.evaluate("File.prototype.slice = () => ({ arrayBuffer: () => Promise.reject(new DOMException()) })")
    page.get_by_label("Choose a file").set_input_files(tmp_path / "a.png")
    expect(page.get_by_role("alert")).to_have_text("That file cannot be read: it is a folder, or no longer there.")


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
