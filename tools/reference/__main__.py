"""Writes the parts of the documentation that are made from the code; ``make docs`` runs this."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tools.reference import clients, command_line, contents, document, example, page, units

ROOT = Path(__file__).resolve().parents[2]
FILES: dict[str, Callable[[str], str]] = {
    "docs/options.md": page.updated,
    "etc/junebug-turn.yaml": example.updated,
    "etc/junebug-turn@.service": units.updated,
    "docs/openapi.json": document.updated,
    "etc/man/junebug-turn.1": command_line.manual,
    "etc/completion/junebug-turn.bash": command_line.completion,
    **clients.FILES,
}


def _with_contents(updated: Callable[[str], str] | None) -> Callable[[str], str]:
    return lambda text: contents.updated(updated(text) if updated else text)


FILES |= {name: _with_contents(FILES.get(name)) for name in contents.pages(ROOT / "docs")}


def outdated() -> Iterator[tuple[Path, str]]:
    """Each file that is not as the code has it, with the text that it should have.

    :raises ValueError: a file lacks a place for what is made
    """
    for name, updated in FILES.items():
        path = ROOT / name
        text = path.read_text("utf-8")
        new = updated(text)
        if new != text:
            yield path, new


def main() -> int:
    """Write the files; the result is the exit status."""
    try:
        for path, text in outdated():
            path.write_text(text, "utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    except ValueError as error:
        print(f"reference: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
