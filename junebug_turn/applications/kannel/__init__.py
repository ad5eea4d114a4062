"""Kannel's HTTP interface."""

from __future__ import annotations

from typing import TYPE_CHECKING

from junebug_turn.applications.base import Application, ApplicationType, Services
from junebug_turn.applications.kannel.options import KannelOptions

if TYPE_CHECKING:
    from junebug_turn.http.openapi import Part


def _create(options: KannelOptions, services: Services) -> Application:
    # Imported here, since --help needs the options only: Klein and the rest would take half as long again.
    from junebug_turn.applications.kannel.application import KannelApplication

    return KannelApplication(options, services)


def _openapi() -> Part:
    from junebug_turn.applications.kannel.openapi import PART

    return PART


TYPE = ApplicationType(
    name="kannel",
    title="Kannel's HTTP interface",
    aliases=(),
    options=KannelOptions,
    create=_create,
    openapi=_openapi,
)
