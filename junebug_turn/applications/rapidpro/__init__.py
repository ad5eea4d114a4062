"""RapidPro's External channel."""

from __future__ import annotations

from junebug_turn.applications.base import Application, ApplicationType, Services
from junebug_turn.applications.rapidpro.options import RapidProOptions


def _create(options: RapidProOptions, services: Services) -> Application:
    # Imported here, since --help needs the options only: Klein and the rest would take half as long again.
    from junebug_turn.applications.rapidpro.application import RapidProApplication

    return RapidProApplication(options, services)


TYPE = ApplicationType(
    name="rapidpro",
    title="an External channel of RapidPro",
    aliases=(),
    options=RapidProOptions,
    create=_create,
)
