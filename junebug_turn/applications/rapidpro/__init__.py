"""RapidPro's External channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from junebug_turn.applications.base import Application, ApplicationType, Services
from junebug_turn.applications.rapidpro.options import RapidProOptions

if TYPE_CHECKING:
    from junebug_turn.http.openapi import Part


def _create(options: RapidProOptions, services: Services) -> Application:
    # Imported here, since --help needs the options only: Klein and the rest would take half as long again.
    from junebug_turn.applications.rapidpro.application import RapidProApplication

    return RapidProApplication(options, services)


def _openapi() -> Part:
    from junebug_turn.applications.rapidpro.openapi import PART

    return PART


TYPE = ApplicationType(
    name="rapidpro",
    title="an External channel of RapidPro",
    aliases=(),
    options=RapidProOptions,
    create=_create,
    openapi=_openapi,
)
