"""The examples in README and the pages of docs: blocks of code, and commands in sentences."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).parents[2]
PAGES = tuple(
    sorted(
        str(path.relative_to(ROOT))
        for pattern in ("*.md", "docs/**/*.md", "changelog.d/README.md")
        for path in ROOT.glob(pattern)
        if path.name != "CHANGELOG.md"
    )
)
"""The pages that people read, by their path in the project."""

PROGRAMS = (
    *(
        "curl",
        "docker",
        "jb",
        "journalctl",
        "junebug-turn",
        "kubectl",
        "ls",
        "make",
        "openssl",
        "pip",
        "python",
    ),
    *("python3", "rabbitmqctl", "redis-cli", "redis-server", "sqlite3", "systemctl", "telnet", "twistd"),
)
"""Programs whose commands stand in sentences and tables."""

_FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(rf"`((?:sudo )?(?:\S*/)?(?:{'|'.join(PROGRAMS)}) [^`]+)`")


@frozen
class Block:
    """A fenced block of code, without the indentation of the list that it stands in."""

    page: str
    language: str
    text: str

    @property
    def name(self) -> str:
        """The page and the first line."""
        return f"{self.page}: {self.text.partition(chr(10))[0].strip()}"


def text_of(page: str) -> str:
    """The text of a page."""
    return (ROOT / page).read_text("utf-8")


def blocks(page: str) -> list[Block]:
    """The blocks of a page, in their order; pictures (mermaid) are no examples."""
    return [
        Block(page, language, textwrap.dedent(text))
        for _, language, text in _FENCED.findall(text_of(page))
        if language != "mermaid"
    ]


def all_blocks() -> list[Block]:
    """The blocks of all pages."""
    return [block for page in PAGES for block in blocks(page)]


def block(page: str, start: str) -> str:
    """The text of the one block of a page that starts so."""
    (found,) = (each.text for each in blocks(page) if each.text.lstrip().startswith(start))
    return found


def commands(page: str) -> Iterator[str]:
    """The commands with arguments in the sentences and tables of a page."""
    for command in _COMMAND.findall(_FENCED.sub("", text_of(page))):
        # A pipe in a table is written with a backslash.
        yield command.replace("\\|", "|")
