"""The Turn Channels API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from junebug_turn.applications.base import Application, ApplicationType, Services
from junebug_turn.applications.turn.options import TurnOptions

if TYPE_CHECKING:
    from junebug_turn.http.openapi import Part


def _create(options: TurnOptions, services: Services) -> Application:
    # Imported here, since --help needs the options only: Klein and the rest would take half as long again.
    from junebug_turn.applications.turn.application import TurnApplication

    return TurnApplication(options, services)


def _openapi() -> Part:
    from junebug_turn.applications.turn.openapi import PART

    return PART


TYPE = ApplicationType(
    name="turn",
    title="the Turn Channels API",
    aliases=(
        "vumi2.applications.TurnChannelsApi",
        "vumi2.applications.turn_channels_api.TurnChannelsApi",
        "vumi2.applications.turn_channels_api.turn_channels_api.TurnChannelsApi",
    ),
    options=TurnOptions,
    create=_create,
    openapi=_openapi,
)
