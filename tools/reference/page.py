"""The tables of docs/options.md, between their markers.

Tested by tests/project/test_reference.py.
"""

from __future__ import annotations

from attrs import NOTHING

from junebug_turn.applications import registry
from junebug_turn.config.option import Entry
from junebug_turn.daemon.settings import DAEMON, schema


def updated(text: str) -> str:
    """The page with its tables as the code has them now.

    :raises ValueError: the page has no place for one of them
    """
    for name, content in (("names", _names()), ("options", _options())):
        head, begin, rest = text.partition(f"<!-- {name}:")
        _, end, tail = rest.partition(f"<!-- end of {name} -->")
        if not (begin and end):
            raise ValueError(f'docs/options.md must have "<!-- {name}: -->" and "<!-- end of {name} -->"')
        text = f"{head}{begin} made from the code by `make docs` -->\n\n{content}\n{end}{tail}"
    return text


def default_shown(entry: Entry) -> str:
    """The default of an option, as a table has it."""
    if entry.default is NOTHING:
        return "required"
    if entry.default is None:
        return "none"
    if isinstance(entry.default, bool):
        return f"`{str(entry.default).lower()}`"
    return "empty" if entry.default == "" else f"`{entry.default}`"


def _names() -> str:
    rows = [
        f"| {', '.join(f'`{alias}`' for alias in each.aliases)} | `{each.name}` |"
        for each in registry.APPLICATION_TYPES
        if each.aliases
    ]
    return "\n".join(["| `application` | Means |", "|---|---|", *rows, ""])


def _options() -> str:
    """A table for the daemon, one for the options that all applications have, and one for each other set of owners."""
    everyone = tuple(each.name for each in registry.APPLICATION_TYPES)
    titles = {(DAEMON,): "The daemon", everyone: "Every application"}
    titles |= {
        (each.name,): f"`application: {each.name}`, {each.title}" for each in registry.APPLICATION_TYPES
    }
    tables: dict[tuple[str, ...], list[str]] = {owners: [] for owners in titles}
    for entry in schema().entries:
        meaning = entry.option.help
        row = f"| `{entry.key}` | {entry.option.type.name} | {default_shown(entry)} | `{entry.variable}` | {meaning} |"
        tables.setdefault(entry.owners, []).append(row)
    lines: list[str] = []
    for owners, rows in tables.items():
        title = titles.get(owners) or " and ".join(f"`application: {name}`" for name in owners)
        lines += ["", f"### {title}", ""] if lines else [f"### {title}", ""]
        lines += ["| Key | Type | Default | Environment variable | Meaning |", "|---|---|---|---|---|"]
        lines += rows
    return "\n".join([*lines, ""])
