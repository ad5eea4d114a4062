"""The configuration: defaults, a YAML file, the environment and command line flags, one over the other."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from junebug_turn.kinds import endpoint_description
from junebug_turn.options import (
    AmqpOptions,
    ApplicationOptions,
    DaemonOptions,
    JunebugOptions,
    TurnOptions,
)

__all__ = [
    "AmqpOptions",
    "ApplicationOptions",
    "DaemonOptions",
    "JunebugOptions",
    "Settings",
    "TurnOptions",
    "endpoint_description",
    "load",
]


@frozen
class Settings:
    """The daemon's options and those of each application."""

    daemon: DaemonOptions
    applications: tuple[ApplicationOptions, ...]


def load(flags: Mapping[str, str], environ: Mapping[str, str]) -> Settings:
    """The settings of all layers."""
    raise NotImplementedError
