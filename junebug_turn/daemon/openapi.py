"""The OpenAPI document of a daemon: a part for every API that runs.

Tested by tests/unit/applications/test_openapi.py and tests/integration/test_openapi.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from junebug_turn.applications.junebug.openapi import MESSAGE_STATUS, SEND_MESSAGE
from junebug_turn.applications.registry import type_of
from junebug_turn.daemon.channels.settings import ChannelsSettings
from junebug_turn.daemon.settings import Settings
from junebug_turn.http.admin.channels.openapi import channels_part, routers_part
from junebug_turn.http.admin.openapi import PAGES
from junebug_turn.http.admin.operators.openapi import PART as OPERATORS
from junebug_turn.http.openapi import Mounted, document


def daemon_document(settings: Settings) -> dict[str, Any]:
    """Return the document of a daemon with these settings."""
    return document(_parts(settings))


def _parts(settings: Settings) -> Iterator[Mounted]:
    for options in settings.applications:
        part = type_of(options).openapi()
        if part is not None:
            secured = options.api_auth is not None
            yield Mounted(name=options.connector_name, part=part, path=options.path, secured=secured)
    if settings.channels is not None:
        yield from _channels(settings.channels)
    guarded = settings.daemon.admin_auth is not None
    if settings.daemon.admin_bind is not None:
        yield Mounted(name="operators", part=OPERATORS, path="/api", secured=guarded)
    # At the operators' address; the health pages are at every other, too, where they need no credentials.
    yield Mounted(name="daemon", part=PAGES, secured=guarded)


def _channels(settings: ChannelsSettings) -> Iterator[Mounted]:
    path, secured = settings.path(), settings.options.api_auth is not None
    for name, part in (("channels", channels_part), ("routers", routers_part)):
        yield Mounted(name=name, part=part(SEND_MESSAGE, MESSAGE_STATUS), path=path, secured=secured)
