"""The types of application that the daemon can run."""

from __future__ import annotations

from junebug_turn.applications import junebug, kannel, rapidpro, turn
from junebug_turn.applications.base import ApplicationOptions, ApplicationType

APPLICATION_TYPES: tuple[ApplicationType, ...] = (junebug.TYPE, turn.TYPE, rapidpro.TYPE, kannel.TYPE)


def type_of(options: ApplicationOptions) -> ApplicationType:
    """Return the type of application that has these options."""
    return next(each for each in APPLICATION_TYPES if each.options is type(options))
