"""Private names in tests and tools: each access to one of another object has its reason beside it.

What is private may change without notice, and what a test asks for should show in the interface.  Where nothing public
does, a comment ``# private: the reason`` stands on the line of the access, or right above it.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MARK = "# private: "
# It is about the private names of the libraries, and says which they are.
EXEMPT = {"tests/project/test_library_internals.py"}


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _is_own(value: ast.expr) -> bool:
    """Whether an attribute of this is the object's or class's own: of ``self``, ``cls`` or ``super()``."""
    if isinstance(value, ast.Call):
        value = value.func
    return isinstance(value, ast.Name) and value.id in ("self", "cls", "super")


def _accesses(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _is_private(node.attr) and not _is_own(node.value):
            yield node.end_lineno or node.lineno, node.attr
        elif isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from ((node.lineno, name) for name in names if _is_private(name))


def _excused(text: str) -> set[int]:
    """The lines that have a reason: that of the comment, and the next one with code where it has a line of its own."""
    excused = set()
    pending = False
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and token.string.startswith(MARK):
            excused.add(token.start[0])
            pending = token.line.lstrip().startswith("#")
        elif pending and token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
            excused.add(token.start[0])
            pending = False
    return excused


def without_reason(text: str) -> list[tuple[int, str]]:
    """The accesses in a module without a reason: line and name."""
    excused = _excused(text)
    return sorted({access for access in _accesses(ast.parse(text)) if access[0] not in excused})


def test_no_private_names_without_a_reason() -> None:
    """No test reaches into private attributes where a public one can tell, nor does a tool."""
    found = [
        f"{name}:{line}: {access}"
        for path in sorted(path for folder in ("tests", "tools") for path in (ROOT / folder).rglob("*.py"))
        if (name := str(path.relative_to(ROOT))) not in EXEMPT
        for line, access in without_reason(path.read_text("utf-8"))
    ]
    assert not found, f"use what is public, or say why not with {MARK!r}:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a._b", [(1, "_b")]),
        ("a.b()._c.d = 1", [(1, "_c")]),
        ("self.a._b", [(1, "_b")]),
        ("from a._b import c", [(1, "_b")]),
        ("from a import _b", [(1, "_b")]),
        ("self._b; cls._b; super()._b(); a.__class__", []),
        ("a._b  # private: no other way", []),
        ("# private: no other way\n# at all\na._b\na._c", [(4, "_c")]),
        ("if a:\n    # private: no other way\n    a._b", []),
        ("x = '# private: none'\na._b", [(2, "_b")]),
    ],
)
def test_what_is_found(text: str, found: list[tuple[int, str]]) -> None:
    """An access is found in whatever form, and excused by a comment alone."""
    assert without_reason(text) == found
