"""Takes docs/serving.png and docs/report.png, the pictures of the demo and of a report, with Debian's chromium.

    CIFAR_FLAX_CACHE=$(mktemp -d) python launch/serve.py &
    python benchmarks/screenshot.py
    python benchmarks/screenshot.py --report=runs/quickstart/report/test.html

The demo shows scikit-image's photograph of a rocket, which is in the public domain (skimage.data.rocket). With an empty cache,
the pictures to try are the drawings of the package, not images of CIFAR.
"""

import shutil
from importlib.resources import as_file, files
from pathlib import Path

from absl import flags
from playwright.sync_api import Error, Page, sync_playwright

from cifar_flax.errors import UserError
from cifar_flax.runtime import app

_ADDRESS = flags.DEFINE_string("address", "http://127.0.0.1:8000/", "of the running demo")
_REPORT = flags.DEFINE_string("report", None, "a report whose head to take, instead of the demo")
_OUT = flags.DEFINE_string("out", None, "file to write; default: docs/serving.png, of a report docs/report.png")
_DARK = flags.DEFINE_bool("dark", False, "in its dark colours")
_WIDTH = flags.DEFINE_integer("width", 1280, "of the window, in pixels", lower_bound=300)


def main() -> None:
    """Takes the picture."""
    chromium = shutil.which("chromium")
    if not chromium:
        raise UserError("chromium is not installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(
            viewport={"width": _WIDTH.value, "height": 880 if _REPORT.value else 940},
            color_scheme="dark" if _DARK.value else "light",
        )
        if _REPORT.value:
            page.goto(Path(_REPORT.value).absolute().as_uri())
        else:
            _upload_photograph(page)
        page.wait_for_timeout(2500)
        page.screenshot(path=_OUT.value or f"docs/{'report' if _REPORT.value else 'serving'}.png", full_page=_WIDTH.value < 800)
        browser.close()


def _upload_photograph(page: Page) -> None:
    """Uploads the photograph, and waits until the bars have grown and the heat map is there."""
    try:
        page.goto(_ADDRESS.value)
        with as_file(files("skimage") / "data" / "rocket.jpg") as photograph:
            page.get_by_label("Choose a file").set_input_files(photograph)
        page.wait_for_selector("#heat:not([hidden])")
    except Error as e:
        reason = e.message.partition("\n")[0]
        raise UserError(f"--address={_ADDRESS.value}: no demo there ({reason}); start one with launch/serve.py") from None


if __name__ == "__main__":
    app.run(main)
