"""The Turn Channels API."""

from __future__ import annotations

from junebug_turn.applications.base import Application, ApplicationType, Services
from junebug_turn.applications.turn.options import TurnOptions


def _create(options: TurnOptions, services: Services) -> Application:
    # Imported here, since --help needs the options only: Klein and the rest would take half as long again.
    from junebug_turn.applications.turn.application import TurnApplication

    return TurnApplication(options, services)


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
)
