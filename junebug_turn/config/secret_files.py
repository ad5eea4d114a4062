"""Option values in files of their own, named by ``<option>_file``: mostly secrets."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from attrs import field, frozen

SUFFIX = "_file"
MAX_SIZE = 1024 * 1024


@frozen
class FileContent:
    """The text of a file that ``<option>_file`` names.

    :ivar text: without one newline at its end; None where there is a fault
    :ivar fault: the reason why the file can't be used, as the end of a sentence
    """

    text: str | None = field(default=None, repr=False)
    fault: str = ""


def option_of(key: Any, known: Collection[Any]) -> str | None:
    """The option that ``key`` gives as a file; None where it is no such key, or an option itself."""
    if not isinstance(key, str) or not key.endswith(SUFFIX) or key in known:
        return None
    option = key.removesuffix(SUFFIX)
    return option if option in known else None


def show_path(path: object) -> str:
    """A path with a space before it, for a fault's line.

    A text that doesn't look like a path is left out: it may be the secret itself, in the wrong place.
    """
    looks_so = isinstance(path, str) and path.isprintable() and path.startswith(("/", "./", "../", "~"))
    return f" {path}" if looks_so else ""


def read(path: object) -> FileContent:
    """The content of the file at ``path``."""
    if not isinstance(path, str) or not path or "\0" in path:
        return FileContent(fault="must be the path of a file")
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_SIZE + 1)
    except OSError as error:
        return FileContent(fault=f"can't be read: {error.strerror}")
    if len(content) > MAX_SIZE:
        return FileContent(fault=f"is larger than {MAX_SIZE} bytes")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return FileContent(fault="is not UTF-8")
    text = text.removesuffix("\n").removesuffix("\r")
    return FileContent(text) if text else FileContent(fault="is empty")
