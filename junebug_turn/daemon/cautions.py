"""Warnings at the start: settings that work, and that somebody could make use of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from junebug_turn.daemon.process import connections_within
from junebug_turn.daemon.settings import Settings
from junebug_turn.http.authentication import Credentials

SHORT = 16
"""Characters that a token or a password has at least where nobody can guess it."""

_GUESSED = (
    "{option} of {connector} has a token or password of fewer than {least} characters: it can be guessed"
)


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
        for caution in options.cautions:
            yield "{connector}: {caution}", {"connector": name, "caution": caution}
        if _can_be_guessed(options.api_auth):
            yield _GUESSED, {"option": "api_auth", "connector": name, "least": SHORT}
    channels = settings.channels
    if channels is not None:
        auth = channels.options.api_auth
        if auth is None and channels.http_bind.reached_from_elsewhere:
            yield (
                "Everybody who reaches {address} can make and change channels: set channels.api_auth, or use 127.0.0.1 "
                "(docs/security.md)",
                {"address": str(channels.http_bind)},
            )
        if _can_be_guessed(auth):
            yield _GUESSED, {"option": "channels.api_auth", "connector": "the channels", "least": SHORT}
    if _can_be_guessed(settings.daemon.admin_auth):
        yield _GUESSED, {"option": "admin_auth", "connector": "the operators' address", "least": SHORT}
    most, wanted = connections_within(settings, descriptors), settings.daemon.limits.max_connections
    if most < wanted:
        yield (
            "limits.max_connections is {wanted}, but the system allows {descriptors} open files: there can be {most} "
            "connections; raise the limit (ulimit -Hn, LimitNOFILE of systemd)",
            {"wanted": wanted, "descriptors": descriptors, "most": most},
        )


def _can_be_guessed(auth: Credentials | None) -> bool:
    return auth is not None and any(len(text) < SHORT for text in (*auth.tokens, *auth.users.values()))
