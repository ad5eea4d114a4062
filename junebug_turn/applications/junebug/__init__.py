"""The Junebug Message API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from junebug_turn.applications.base import Application, ApplicationType, Services
from junebug_turn.applications.junebug.options import JunebugOptions

if TYPE_CHECKING:
    from junebug_turn.http.openapi import Part


def _create(options: JunebugOptions, services: Services) -> Application:
    # Imported here, since --help needs the options only: Klein and the rest would take half as long again.
    from junebug_turn.applications.junebug.application import JunebugApplication

    return JunebugApplication(options, services)


def _openapi() -> Part:
    from junebug_turn.applications.junebug.openapi import PART

    return PART


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
    openapi=_openapi,
)
