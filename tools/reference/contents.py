"""The contents list of each long page in docs/: a link to each of its sections, before the first of them.

Tested by tests/project/test_docs_pages.py.
"""

from __future__ import annotations

import re
from pathlib import Path

LONG = 150  # lines
BEGIN, END = "<!-- contents: made by `make docs` -->\n", "<!-- end of contents -->\n"

_PLACE = re.compile(rf"{re.escape(BEGIN)}.*?{re.escape(END)}\n", re.DOTALL)
_CODE = re.compile(r"^( *)```.*?^ *```$", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r"^## (.*)$", re.MULTILINE)


def anchor(title: str) -> str:
    """Return the anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def updated(text: str) -> str:
    """The page with its contents list as its headings are now; a short page has none."""
    text = _PLACE.sub("", text)
    # Of the same length, so that places stay.
    prose = _CODE.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), text)
    sections = list(_SECTION.finditer(prose))
    if text.count("\n") <= LONG or not sections:
        return text
    links = "".join(f"- [{section[1].replace('`', '')}](#{anchor(section[1])})\n" for section in sections)
    place = sections[0].start()
    return f"{text[:place]}{BEGIN}\n{links}\n{END}\n{text[place:]}"


def pages(folder: Path) -> list[str]:
    """Return the pages, as paths in the project."""
    return sorted(f"{folder.name}/{page.name}" for page in folder.glob("*.md"))
