"""The comments and defaults of the example file.

Above each option stands its meaning, in lines that begin with ``#:``.  They are made from the code, as is the default
in a line ``# key: default``.  Everything else in the file is written by hand: the values, and the notes below the
lines with ``#:``.

Tested by tests/project/test_reference.py.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable

from attrs import NOTHING

from junebug_turn.applications import registry
from junebug_turn.config.option import Entry
from junebug_turn.daemon.settings import DAEMON, schema

_SECTION = re.compile(r"  - application: (\w+)\n")
_KEY = re.compile(r"^(?P<indent> *)(?P<comment># )?(?P<key>[a-z0-9_]+):(?P<value> .*)?$")
_WIDTH = 112


def updated(text: str) -> str:
    """The file with its comments and defaults as the code has them now; an option that it lacks is added.

    :raises ValueError: it has an option that there isn't, or no section for an application
    """
    everyone = tuple(each.name for each in registry.APPLICATION_TYPES)
    top, *parts = re.split(r"^(?=  - application: )", text, flags=re.MULTILINE)
    sections = {}
    for part in parts:
        name = _SECTION.match(part)
        sections[name[1] if name else part] = part
    top, separator, opening = top.rpartition("\napplications:\n")
    common = [entry for entry in schema().entries if entry.owners == everyone]
    shared = [entry for entry in common if any(_given(part, entry) for part in parts)]
    daemon = [entry for entry in schema().of(DAEMON) if not entry.path[0].startswith("application")]
    made = (
        _section(top, daemon + [entry for entry in common if entry not in shared], "") + separator + opening
    )
    for each in registry.APPLICATION_TYPES:
        if each.name not in sections:
            raise ValueError(f'etc/junebug-turn.yaml must have a section "  - application: {each.name}"')
        own = [entry for entry in schema().of(each.name) if entry.owners != everyone or entry in shared]
        made += _section(sections[each.name], own, "    ")
    return made


def _given(text: str, entry: Entry) -> bool:
    return re.search(rf"^ *(# )?{entry.path[-1]}:", text, re.MULTILINE) is not None


def _section(text: str, entries: Iterable[Entry], indent: str) -> str:
    """A part of the file with the comments of these options; those that it lacks are added."""
    missing = {entry.path: entry for entry in entries}
    groups = {path[0] for path in missing if len(path) > 1}
    lines: list[str] = []
    comments: list[str] = []
    group = ""
    for line in text.rstrip("\n").split("\n"):
        match = _KEY.match(line)
        at_top = not line.startswith((" ", "#")) if not indent else False
        if group and (not line or at_top):
            lines += _added(missing, group, f"{indent}  ")
            group = ""
        path = () if match is None else ((group, match["key"]) if group else (match["key"],))
        if path in missing and match is not None:
            entry = missing.pop(path)
            lines += _meaning(entry, match["indent"])
            lines += [comment for comment in comments if not comment.lstrip().startswith("#:")]
            lines.append(
                f"{match['indent']}# {entry.path[-1]}: {_default(entry)}" if match["comment"] else line
            )
            comments = []
        elif line.lstrip().startswith("#"):
            if match is not None and any(comment.lstrip().startswith("#:") for comment in comments):
                raise ValueError(
                    f'etc/junebug-turn.yaml has an option that there isn\'t here: "{line.strip()}"'
                )
            comments.append(line)
        else:
            lines += [*comments, line]
            comments = []
            group = match["key"] if match and match["key"] in groups else group
    if group:
        lines += _added(missing, group, f"{indent}  ")
    if missing:
        # What stands at the end may be the heading of the next section.
        end = [] if lines[-1] else [lines.pop()]
        lines += _added(missing, "", indent) + end
    return "\n".join([*lines, *comments]) + text[len(text.rstrip("\n")) :]


def _added(missing: dict[tuple[str, ...], Entry], group: str, indent: str) -> list[str]:
    """The lines of the options of a group that were not there, each taken from ``missing``."""
    lines: list[str] = []
    for path in [path for path in missing if (path[0] == group if group else len(path) == 1)]:
        entry = missing.pop(path)
        blank = [] if group else [""]
        lines += [*blank, *_meaning(entry, indent), f"{indent}# {entry.path[-1]}: {_default(entry)}"]
    return lines


def _meaning(entry: Entry, indent: str) -> list[str]:
    # A type with a comma has bounds or words in its name.
    allowed = f" ({entry.option.type.name})" if "," in entry.option.type.name else ""
    return textwrap.wrap(
        f"{entry.option.help}{allowed}",
        width=_WIDTH,
        initial_indent=f"{indent}#: ",
        subsequent_indent=f"{indent}#: ",
        break_on_hyphens=False,
        break_long_words=False,
    )


def _default(entry: Entry) -> str:
    default = None if entry.default is NOTHING else entry.default
    return default if isinstance(default, str) and default else json.dumps(default)
