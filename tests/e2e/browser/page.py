"""Measurements and actions on the page of the demo in a browser."""

import re
import time


def answer_to(page, act):
    """Calls `act` and returns the API's answer to it."""
    with page.expect_response("**/api/predict**") as waiting:
        act()
    return waiting.value.json()


MEASURE = """() => [...document.querySelectorAll("g.bar")].map(bar => {
  const [track, fill, label, value] = ["track", "fill", "label", "value"].map(part => bar.querySelector("." + part));
  const width = part => part.getBoundingClientRect().width;
  return {
    name: bar.dataset.class, number: value.textContent, share: width(fill) / width(track),
    top: track.getBoundingClientRect().top, gap: value.getBoundingClientRect().left - label.getBoundingClientRect().right,
  };
})"""


def assert_bars_show(page, answer):
    """The five bars become as long as the API's numbers say, in their order, and named and numbered so."""
    expected = [p["probability"] for p in answer["predictions"]]
    numbers = [f"{probability:.1%}" for probability in expected]
    page.wait_for_function(
        f"""([expected, numbers]) => {{
          const bars = ({MEASURE})();
          const arrived = (bar, k) => Math.abs(bar.share - expected[k]) < 0.003 && bar.number === numbers[k];
          return bars.length === 5 && bars.every(arrived);
        }}""",
        arg=[expected, numbers],
    )
    bars = page.evaluate(MEASURE)
    assert [bar["name"] for bar in bars] == [p["class"] for p in answer["predictions"]]
    assert [bar["top"] for bar in bars] == sorted(bar["top"] for bar in bars)
    assert all(bar["gap"] > 0 for bar in bars)


def wait_until(page, condition):
    """Lets the page go on until `condition()` holds."""
    deadline = time.monotonic() + 600  # for a machine ten times slower
    while not condition():
        assert time.monotonic() < deadline
        page.wait_for_timeout(20)


def hold(page, pattern, act):
    """Calls `act` and holds the request that it leads to, until the returned function is called."""
    held = []
    page.route(pattern, lambda route: held.append(route))  # noqa: PLW0108 # it takes no builtin
    act()
    wait_until(page, lambda: held)
    return held[0].continue_


def readable(name):
    """The name of a class as people write it."""
    return name.replace("_", " ")


RECORD = """() => {
  window.shares = [];
  const frame = () => {
    const fill = document.querySelector(".fill"), track = document.querySelector(".track");
    if (fill) window.shares.push(fill.getBoundingClientRect().width / track.getBoundingClientRect().width);
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}"""


def colour(page, selector, name, part=None):
    """Red, green and blue, and alpha if the colour is not opaque."""
    read = "([selector, name, part]) => getComputedStyle(document.querySelector(selector), part)[name]"
    return [int(channel) for channel in re.findall(r"\d+", page.evaluate(read, [selector, name, part]))]


def contrast(a, b):
    """Contrast ratio of two opaque colours, as WCAG 2.2 defines it."""

    def luminance(colour):
        parts = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)
