"""Which version of the daemon this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def release() -> str | None:
    """The version; None where the package is not installed."""
    try:
        return version("junebug-turn")
    except PackageNotFoundError:
        return None
