"""A browser, and the page of a server whose classes have names that no page should choke on."""

import shutil
from types import SimpleNamespace

import pytest
from playwright.sync_api import sync_playwright

from cifar_flax.files.checksum import dumps_checksummed, read_checksummed
from tests.e2e.conftest import serving

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


@pytest.fixture(scope="package")
def browser(chromium):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
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
