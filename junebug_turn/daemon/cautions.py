"""Warnings at the start: settings that work, and that somebody could make use of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from junebug_turn.daemon.process import connections_within
from junebug_turn.daemon.settings import Settings

SHORT = 16
"""Characters that a token or a password has at least where nobody can guess it."""


def cautions(settings: Settings, descriptors: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a log format and its fields for each warning.

    :param descriptors: how many files and connections the process may have open
    """
    for options in settings.applications:
        name = options.connector_name
        if options.open_to_all and options.http_bind.reached_from_elsewhere:
            yield (
                "Everybody who reaches {address} can send messages of {connector}: set api_auth, or use 127.0.0.1 "
                "(docs/security.md)",
                {"address": str(options.http_bind), "connector": name},
            )
        auth = options.api_auth
        if auth is not None and any(len(text) < SHORT for text in (*auth.tokens, *auth.users.values())):
            yield (
                "api_auth of {connector} has a token or password of fewer than {least} characters: it can be guessed",
                {"connector": name, "least": SHORT},
            )
    most, wanted = connections_within(settings, descriptors), settings.daemon.limits.max_connections
    if most < wanted:
        yield (
            "limits.max_connections is {wanted}, but the system allows {descriptors} open files: there can be {most} "
            "connections; raise the limit (ulimit -Hn, LimitNOFILE of systemd)",
            {"wanted": wanted, "descriptors": descriptors, "most": most},
        )
