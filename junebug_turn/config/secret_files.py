"""Option values that stand in files of their own, as ``<option>_file`` names them: secrets, mostly."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from attrs import field, frozen

SUFFIX = "_file"
MAX_SIZE = 1024 * 1024


@frozen
class Filed:
    """What ``<option>_file`` gave.

    :ivar text: the file's content without one newline at its end; None where there is a fault
    :ivar fault: what is wrong with it
    """

    text: str | None = field(default=None, repr=False)
    fault: str = ""


def option_of(key: Any, known: Collection[Any]) -> str | None:
    """The option whose file ``key`` names; None where it is no such key, or an option itself."""
    if not isinstance(key, str) or not key.endswith(SUFFIX) or key in known:
        return None
    option = key.removesuffix(SUFFIX)
    return option if option in known else None


def show_path(path: object) -> str:
    """A path for a line about it; what doesn't look like one may be the secret itself, in the wrong place."""
    looks_so = isinstance(path, str) and path.isprintable() and path.startswith(("/", "./", "../", "~"))
    return f" {path}" if looks_so else ""


def read(path: object) -> Filed:
    """The content of the file at ``path``."""
    if not isinstance(path, str) or not path or "\0" in path:
        return Filed(fault="must be the path of a file")
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_SIZE + 1)
    except OSError as error:
        return Filed(fault=f"can't be read: {error.strerror}")
    if len(content) > MAX_SIZE:
        return Filed(fault=f"is larger than {MAX_SIZE} bytes")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return Filed(fault="is not UTF-8")
    text = text.removesuffix("\n").removesuffix("\r")
    return Filed(text) if text else Filed(fault="is empty")
