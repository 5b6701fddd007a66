"""Takes docs/serving.png, the picture of the demo in the README, with Debian's chromium.

    CIFAR_FLAX_CACHE=$(mktemp -d) python launch/serve.py &
    python benchmarks/screenshot.py

It shows scikit-image's photograph of a rocket, which is in the public domain (skimage.data.rocket). With an empty cache, the
pictures to try are the drawings of the package, not images of CIFAR.
"""

import shutil
from importlib.resources import as_file, files

from absl import flags
from playwright.sync_api import Error, sync_playwright

from cifar_flax.errors import UserError
from cifar_flax.runtime import app

_ADDRESS = flags.DEFINE_string("address", "http://127.0.0.1:8000/", "of the running demo")
_OUT = flags.DEFINE_string("out", "docs/serving.png", "file to write")
_DARK = flags.DEFINE_bool("dark", False, "in its dark colours")
_WIDTH = flags.DEFINE_integer("width", 1280, "of the window, in pixels", lower_bound=300)


def main() -> None:
    """Uploads the photograph, waits until the bars have grown and the heat map is there, and takes the picture."""
    chromium = shutil.which("chromium")
    if not chromium:
        raise UserError("chromium is not installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright, as_file(files("skimage") / "data" / "rocket.jpg") as photograph:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(
            viewport={"width": _WIDTH.value, "height": 940}, color_scheme="dark" if _DARK.value else "light"
        )
        try:
            page.goto(_ADDRESS.value)
            page.get_by_label("Choose a file").set_input_files(photograph)
            page.wait_for_selector("#heat:not([hidden])")
        except Error as e:
            reason = e.message.partition("\n")[0]
            raise UserError(f"--address={_ADDRESS.value}: no demo there ({reason}); start one with launch/serve.py") from None
        page.wait_for_timeout(2500)
        page.screenshot(path=_OUT.value, full_page=_WIDTH.value < 800)
        browser.close()


if __name__ == "__main__":
    app.run(main)
