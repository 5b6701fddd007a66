"""The README and the pages beside it: links lead somewhere, flags and fields exist."""

import re

import pytest

from cifar_flax.config import Config
from cifar_flax.config.flags import load_config
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(page):
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_page_is_linked_from_the_readme():
    text = (ROOT / "README.md").read_text()
    assert [page.name for page in PAGES[1:] if f"docs/{page.name}" not in text] == []


def test_configs_and_variants_that_are_named_exist():
    named = {match for page in PAGES for match in re.findall(r"--config=(configs/\w+\.py(?::\w+)?)", page.read_text())}
    assert len(named) > 10
    for name in sorted(named):
        assert isinstance(load_config(str(ROOT / name)), Config)


def test_the_readme_is_for_a_first_contact():
    assert len((ROOT / "README.md").read_text().splitlines()) < 150
