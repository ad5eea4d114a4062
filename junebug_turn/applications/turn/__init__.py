"""The Turn Channels API."""

from __future__ import annotations

from junebug_turn.applications.base import Application, ApplicationType, ComposedApplication, Services
from junebug_turn.applications.turn.options import TurnOptions


def _create(options: TurnOptions, services: Services) -> Application:
    # Here, since --help needs the options only.
    from junebug_turn.applications.turn.api import TurnApi
    from junebug_turn.applications.turn.application import TurnApplication

    application = TurnApplication(
        options, services.connector, services.store, services.deliverer, services.retry_policy
    )
    api = TurnApi(
        application, services.clock, max_json_depth=services.max_json_depth, metrics=services.metrics
    )
    return ComposedApplication(api.resource(), api.answer, application.on_inbound, application.on_event)


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
