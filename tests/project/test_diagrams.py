"""The Mermaid diagrams of the documentation, drawn in Chromium by Mermaid itself: ``make diagrams``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import Browser

ROOT = Path(__file__).parents[2]
MERMAID = os.environ.get("MERMAID")
"""Mermaid's script for browsers; none: nothing is drawn."""

DIAGRAMS = [
    pytest.param(text, id=f"{page.relative_to(ROOT)}-{number}")
    for page in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
    for number, text in enumerate(
        re.findall(r"^```mermaid\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL), 1
    )
]
DRAW = """
const [text, done] = arguments;
mermaid.initialize({startOnLoad: false, securityLevel: 'strict'});
mermaid.parse(text)
  .then(() => mermaid.render('diagram', text))
  .then(({svg}) => { document.body.innerHTML = svg; done(''); })
  .catch(error => done(String(error)));
"""

pytestmark = pytest.mark.skipif(MERMAID is None, reason="make diagrams draws the diagrams")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser with a page that has Mermaid."""
    page = tmp_path_factory.mktemp("mermaid") / "page.html"
    script = Path(str(MERMAID)).resolve().as_uri()
    page.write_text(f'<!doctype html><meta charset="utf-8"><script src="{script}"></script><body>')
    browser = Browser()
    browser.open(page.as_uri())
    yield browser
    browser.close()


@pytest.mark.parametrize("text", DIAGRAMS)
def test_a_diagram(browser: Browser, text: str) -> None:
    """Mermaid can read and draw it, with each label of its nodes as a person reads it."""
    assert browser.driver.execute_async_script(DRAW, text) == ""
    shown = re.sub(r"\s+", "", browser.text())
    labels = re.findall(r"\w+[\[({]{1,2}([^\])}]+)", text)
    for label in labels:
        assert re.sub(r"<br>|\s+", "", label.strip('"')) in shown


def test_a_wrong_diagram(browser: Browser) -> None:
    """A diagram that Mermaid can't read fails the test, so that the others prove something."""
    assert browser.driver.execute_async_script(DRAW, "flowchart LR\n    a --> --> b\n").startswith("Error")
