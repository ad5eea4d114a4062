"""Strict YAML: numbers and booleans are left as they are written, and a key stands once."""

from __future__ import annotations

import re
from typing import Any

import yaml

from junebug_turn.config.report import show_name
from junebug_turn.config.scalars import PATTERNS, Scalar


class _Loader(yaml.SafeLoader):
    """PyYAML's loader with fewer implicit types, and without keys that stand twice."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012  the base class's way

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError, AttributeError):
            # An explicit tag that doesn't fit, such as !!int x.
            raise yaml.constructor.ConstructorError(
                None, None, "a value that doesn't fit its tag", node.start_mark
            ) from None

    def construct_written(self, node: Any) -> Scalar:
        """Take a scalar as it is written; its kind only has to be that of an explicit tag."""
        text = self.construct_scalar(node)
        if not re.fullmatch(PATTERNS[node.tag.rpartition(":")[2]], text):
            raise ValueError
        return Scalar(text)

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    problem = f"the key {show_name(key.value)} stands twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return node


for _tag, _pattern, _first in (
    ("merge", r"<<", "<"),
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", PATTERNS["bool"], "tTfFyYnNoO"),
    ("int", PATTERNS["int"], "-+0123456789"),
    ("float", PATTERNS["float"], "-+.0123456789"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), [*_first, ""]
    )

for _tag in PATTERNS:
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _Loader.construct_written)


_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")


def _without_content(quoted: re.Match[str]) -> str:
    """PyYAML quotes signs and <kinds>, but also aliases and tags, and an unquoted password may look like one."""
    content = quoted[1] or quoted[2] or ""
    return quoted[0] if len(content) < 2 or content.startswith("<") else "..."


def parse(text: str | bytes) -> Any:
    """The value of one YAML document.

    :raises ValueError: it can't be read; the message says where and why, without quoting the text
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506  _Loader is a SafeLoader  # nosec B506
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = ", ".join(text for text in (error.context, error.problem) if text)
        raise ValueError(f"{where}{_QUOTED.sub(_without_content, problem)}") from None
    except yaml.reader.ReaderError as error:
        raise ValueError(f"not YAML text: {error.reason} at position {error.position}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dump(value: Any) -> str:
    """Return JSON as YAML in ASCII, whose lines end nowhere but at a newline; a value that is text is read as text."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=False, width=10**6)
