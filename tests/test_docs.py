"""The README and the pages beside it: links lead somewhere, flags and fields exist."""

import itertools
import re

import numpy as np
import pytest

from cifar_flax.config import Config
from cifar_flax.config.files import load_config
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


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.name)
def test_a_page_begins_with_a_table_of_questions_and_sections(page):
    title, blank, *lines = page.read_text().splitlines()
    table = list(itertools.takewhile(lambda line: line.startswith("|"), lines))
    assert (title[:2], blank, *table[:2]) == ("# ", "", "| question | section |", "| --- | --- |")
    assert len(table) >= 2 + 3
    assert all(LINK.search(row.split("|")[2]) for row in table[2:])


def test_every_page_is_linked_from_the_readme():
    text = (ROOT / "README.md").read_text()
    assert [page.name for page in PAGES[1:] if f"docs/{page.name}" not in text] == []


def test_configs_and_variants_that_are_named_exist():
    named = {match for page in PAGES for match in re.findall(r"--config=(configs/\w+\.py(?::\w+)?)", page.read_text())}
    assert len(named) > 5
    for name in sorted(named):
        assert isinstance(load_config(str(ROOT / name)), Config)


@pytest.mark.slow
def test_the_commands_and_the_code_of_the_weights_page_run(launch, tmp_path, monkeypatch):
    page = (ROOT / "docs" / "weights.md").read_text()
    (tmp_path / "cifar_flax").symlink_to(ROOT / "cifar_flax")  # the pictures in it
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^python launch/export.py (--run=pretrained:fast .*)$", page, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        done = launch("export", *command.split())
        assert done.returncode == 0, done.stderr
        assert "safetensors" not in command or done.stdout in page
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        names = {}
        exec(block, names)
        assert names.get("logits", np.empty((2, 100))).shape == (2, 100)
        assert len(names.get("class_names", range(100))) == 100


def test_the_readme_is_for_a_first_contact():
    assert len((ROOT / "README.md").read_text().splitlines()) < 150
