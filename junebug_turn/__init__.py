"""A Twisted daemon between vumi's AMQP queues and the HTTP APIs of Junebug and Turn."""

from __future__ import annotations

from importlib import metadata


def version() -> str | None:
    """The version that is installed; None where the package is not installed."""
    try:
        return metadata.version("junebug-turn")
    except metadata.PackageNotFoundError:
        return None
