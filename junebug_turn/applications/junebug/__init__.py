"""The Junebug Message API."""

from __future__ import annotations

from junebug_turn.applications.base import Application, ApplicationType, ComposedApplication, Services
from junebug_turn.applications.junebug.options import JunebugOptions


def _create(options: JunebugOptions, services: Services) -> Application:
    # Here, since --help needs the options only.
    from junebug_turn.applications.junebug.api import JunebugApi
    from junebug_turn.applications.junebug.application import JunebugApplication

    application = JunebugApplication(
        options, services.connector, services.store, services.deliverer, services.retry_policy
    )
    api = JunebugApi(
        application,
        services.clock,
        max_json_depth=services.max_json_depth,
        metrics=services.metrics,
    )
    return ComposedApplication(api.resource(), api.answer, application.on_inbound, application.on_event)


TYPE = ApplicationType(
    name="junebug",
    title="the Junebug Message API",
    aliases=(
        "vumi2.applications.JunebugMessageApi",
        "vumi2.applications.junebug_message_api.JunebugMessageApi",
        "vumi2.applications.junebug_message_api.junebug_message_api.JunebugMessageApi",
    ),
    options=JunebugOptions,
    create=_create,
)
