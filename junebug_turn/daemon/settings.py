"""Settings: the options of the daemon and of its applications, read together from all sources."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import attrs
from attrs import NOTHING, frozen

from junebug_turn.applications import registry
from junebug_turn.applications.base import ApplicationOptions, ApplicationType
from junebug_turn.config.option import Entry, Schema, entries
from junebug_turn.config.report import Report, Reported, show_name
from junebug_turn.config.resolver import UNKNOWN, Resolver
from junebug_turn.config.sources import Layer, Sources, layer_of, overlay
from junebug_turn.daemon.channels.options import ChannelsOptions
from junebug_turn.daemon.channels.settings import ChannelsSettings, channels_settings
from junebug_turn.daemon.junebug.command_line import Pieces
from junebug_turn.daemon.junebug.translation import Translation
from junebug_turn.daemon.operators.faults import address_faults
from junebug_turn.daemon.options import DaemonOptions
from junebug_turn.daemon.published_secrets import published_secrets
from junebug_turn.daemon.selectors import selectors
from junebug_turn.daemon.shadowed import shadowed_secrets, unused_variables
from junebug_turn.errors import ConfigError

DAEMON = "daemon"
"""The owner of the options that are not those of an application."""


@frozen
class Settings:
    """The daemon's options and those of each application.

    :ivar warnings: a line for each option that is unknown here and may be another worker's
    :ivar channels: those of the channels that are made at run time; None where there are none
    """

    daemon: DaemonOptions
    applications: tuple[ApplicationOptions, ...]
    warnings: tuple[str, ...] = ()
    channels: ChannelsSettings | None = None


@frozen
class Explained:
    """The configuration as it was read.

    :ivar settings: None where there are faults
    :ivar faults: a line for each
    :ivar daemon: the value and the source of each option of the daemon
    :ivar applications: the same of each application, with ``application`` itself
    """

    settings: Settings | None
    faults: tuple[str, ...]
    daemon: Report
    applications: tuple[Report, ...]


def load(flags: Mapping[str, str], environ: Mapping[str, str], junebug: Pieces | None = None) -> Settings:
    """Read the settings from all sources.

    :param flags: option names such as ``amqp_hostname``, and ``config``, to the text given for them
    :param environ: the environment variables
    :param junebug: what the command line of ``jb`` gives, where the process is that
    :raises ConfigError: one line for each fault
    """
    explained = explain(flags, environ, junebug)
    if explained.settings is None:
        raise ConfigError(*explained.faults)
    return explained.settings


def explain(flags: Mapping[str, str], environ: Mapping[str, str], junebug: Pieces | None = None) -> Explained:
    """Read the settings with each value's source and all faults; parameters as for ``load``."""
    return _Reading(flags, environ, junebug).explained()


def schema() -> Schema:
    """Return every option that there is: the daemon's, then those of each type of application."""
    return _schema(registry.APPLICATION_TYPES)


@cache
def _schema(types: tuple[ApplicationType, ...]) -> Schema:
    every = [Entry((key,), option, None, (DAEMON,)) for key, option in selectors(types).items()]
    every += entries(DaemonOptions, DAEMON)
    for each in types:
        every += entries(each.options, each.name)
    return Schema(every)


@frozen
class _Found:
    """One application: its type, its values and the place that they are from."""

    type: ApplicationType
    values: Mapping[str, Any]
    report: Report
    place: str


class _Reading:
    """Reader of the options of the daemon, then of those of each application."""

    def __init__(self, flags: Mapping[str, str], environ: Mapping[str, str], junebug: Pieces | None) -> None:
        self._schema = schema()
        self._selectors = selectors(registry.APPLICATION_TYPES)
        self._daemon_keys = {entry.path[0] for entry in self._schema.of(DAEMON)}
        translation = Translation(self._schema, environ, junebug)
        self._sources = Sources(self._schema, flags, environ, translation)
        self._layer = self._sources.merged()
        self._faults = self._sources.faults
        self._warnings = self._sources.warnings

    def explained(self) -> Explained:
        resolver = self._resolver("the daemon", self._sources.place)
        daemon = self._daemon(resolver)
        self._stored = daemon["channels"].store is not None
        found = list(self._applications())
        self._refuse_clashes(found)
        for each in found:
            self._faults += published_secrets(each.report, each.values.get("http_bind"))
        channels = self._channels(daemon["channels"], resolver) if self._stored else None
        others = [each.values.get("http_bind") for each in found]
        others += [] if channels is None else [channels.http_bind]
        self._faults += address_faults(resolver.report, others)
        settings = None
        if not self._faults:
            applications = tuple(each.type.options(**each.values) for each in found)
            warnings = tuple(dict.fromkeys(self._warnings))
            settings = Settings(DaemonOptions(**daemon), applications, warnings, channels)
        faults = tuple(dict.fromkeys(self._faults))
        if self._sources.unreadable:
            return Explained(None, faults, {}, ())
        return Explained(settings, faults, resolver.report, tuple(each.report for each in found))

    def _resolver(self, owner: str, place: str) -> Resolver:
        return Resolver(
            self._schema,
            self._faults,
            owner,
            place,
            self._sources.prefix,
            warnings=self._warnings,
            whole=not self._sources.unreadable,
        )

    def _selected(self, key: str, layer: Layer, resolver: Resolver) -> Any:
        """Return the value of a selector; None where there is none, or none that can be used."""
        value = resolver.accept(key, self._selectors[key], layer[key]) if key in layer else None
        return None if value is NOTHING else value

    def _daemon(self, resolver: Resolver) -> dict[str, Any]:
        layer = self._layer
        resolver.refuse(layer, layer.keys() - self._schema.keys, UNKNOWN)
        values = resolver.values(DaemonOptions, layer)
        amqp = self._selected("amqp_url", layer, resolver)
        if amqp:
            # A URL can't name files: these stay as they are.
            values["amqp"] = attrs.evolve(values["amqp"], **amqp)
            for name, value in amqp.items():
                if reported := resolver.report.get(f"amqp.{name}"):
                    resolver.report[f"amqp.{name}"] = Reported(
                        reported.option, value, layer["amqp_url"].source
                    )
        return values

    def _channels(self, options: ChannelsOptions, resolver: Resolver) -> ChannelsSettings | None:
        """Return the settings of the channels that are made at run time."""
        bind: Any = options.http_bind
        if bind is None and "http_bind" in self._layer:
            http_bind = next(entry for entry in self._schema.entries if entry.key == "http_bind")
            bind = resolver.accept("http_bind", http_bind.option, self._layer["http_bind"])
        if bind is None:
            resolver.missing("http_bind")
        if bind is None or bind is NOTHING:
            return None
        try:
            return channels_settings(options, bind, self._sources.place)
        except ConfigError as error:
            # A value that can't be used is no missing one.
            known = {line.partition(":")[0] for line in self._faults}
            self._faults += [line for line in error.lines if line.partition(":")[0] not in known]
            return None

    def _applications(self) -> Iterator[_Found]:
        """Yield each application whose type is known."""
        place = self._sources.place
        daemon_only = self._daemon_keys - {"application"}
        common = {key: value for key, value in self._layer.items() if key not in daemon_only}
        if self._stored and not {"application", "applications"} & self._layer.keys():
            # What stands at the top level would be for an application that there isn't.
            own = {key: each for key, each in common.items() if not each.ambient and key in self._schema.keys}
            resolver = self._resolver("the daemon", place)
            resolver.refuse(own, own.keys() - {"http_bind"}, "needs an application")
            return
        if "applications" not in self._layer:
            own = {key: each for key, each in common.items() if key in self._schema.keys and not each.ambient}
            yield from self._application(common, own, place)
            return
        given = self._selected("applications", self._layer, self._resolver("the daemon", place))
        entries: list[Layer] = []
        for number, entry in enumerate(given or ()):
            name = entry.get("connector_name")
            label = f" {show_name(name)}" if isinstance(name, str) else ""
            source = f"{self._layer['applications'].source}, applications[{number}]{label}"
            shared = self._layer["applications"].shared
            own = layer_of(self._schema, entry, source, shared=shared)
            entries.append(own)
            self._faults += shadowed_secrets(self._schema, own, self._sources.above)
            yield from self._application(overlay(self._schema, common, own), own, source)
        self._warnings += unused_variables(self._schema, entries, self._sources.above)

    def _application(self, layer: Layer, own: Layer, place: str) -> Iterator[_Found]:
        """Yield one application, if its type is known.

        :param layer: all that is given for it
        :param own: that which is given for no other one, and so has to fit
        """
        resolver = self._resolver("the daemon", place)
        found = self._selected("application", layer, resolver)
        if "application" not in layer:
            resolver.missing("application")
        if found is None:
            resolver.refuse(own, own.keys() - self._schema.keys, UNKNOWN)
            return
        resolver = self._resolver(f"application {found.name}", place)
        selected = layer["application"]
        resolver.report["application"] = Reported(self._selectors["application"], found, selected.source)
        keys = {entry.path[0] for entry in self._schema.of(found.name)} | {"application"}
        daemon_only = self._daemon_keys - keys
        resolver.refuse(own, own.keys() & daemon_only, "belongs at the top level")
        resolver.refuse(own, own.keys() - daemon_only - keys, f"{UNKNOWN} of application {found.name}")
        values = resolver.values(found.options, layer)
        for key, other in found.options.required_unless.items():
            # One that is given, but can't be used, is a fault already.
            if not any(name in layer and values.get(name, NOTHING) is not None for name in (key, other)):
                resolver.missing(key, unless=other)
        yield _Found(found, values, resolver.report, place)

    def _refuse_clashes(self, applications: Iterable[_Found]) -> None:
        """Add a fault where two applications have the same queues, or the same path at the same address."""
        queues: dict[str, str] = {}
        paths: dict[tuple[Any, str], str] = {}
        for each in applications:
            for key in ("connector_name", "amqp_queue"):
                name, place = each.values.get(key), f"{key}, {each.place}"
                if name is not None and (first := queues.setdefault(name, place)) != place:
                    self._faults.append(f"{key}: {show_name(name)} is taken twice ({first}; {place})")
            address = each.values.get("http_bind")
            if address is None:
                continue
            key = each.type.options.path_option
            path = each.values.get(key, "")
            first = paths.setdefault((address, path), each.place)
            if first != each.place:
                self._faults.append(f'{key}: "{path}" on {address} is taken twice ({first}; {each.place})')
