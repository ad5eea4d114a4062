"""From layers of given values to the option classes, with one line for each fault.

Each value is carried with the place it came from until it is accepted.  All faults are collected, and no line
holds a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeAlias

import attrs
from attrs import NOTHING, frozen

from junebug_turn.applications.base import APPLICATIONS, ApplicationOptions
from junebug_turn.config import secret_files, types
from junebug_turn.config.option import Option
from junebug_turn.config.report import DEFAULT, Told
from junebug_turn.config.types import endpoint_description
from junebug_turn.daemon.entries import SELECTORS, all_entries
from junebug_turn.daemon.options import AmqpOptions, DaemonOptions

ENTRIES = all_entries()
GROUPS = frozenset(entry.path[0] for entry in ENTRIES if len(entry.path) > 1)
_KEYS = {entry.path[0] for entry in ENTRIES}
_DAEMON_KEYS = {entry.path[0] for entry in ENTRIES if "daemon" in entry.owners}
_MAPPINGS = GROUPS | {entry.name for entry in ENTRIES if entry.option.kind is types.MAPPING}


@frozen
class Given:
    """A value, and where it came from; the values of a mapping option are given, too.

    :ivar ambient: from the environment, where not everything is meant for us
    """

    value: Any
    source: str
    ambient: bool = False


Layer: TypeAlias = dict[Any, Given]


def given(values: Mapping[Any, Any], source: str, *, ambient: bool = False) -> Layer:
    """A layer of ``values`` that all come from ``source``, or from the files that ``<option>_file`` names there."""
    layer = _filed(values, _KEYS - GROUPS, source, ambient)
    for key, value in values.items():
        if secret_files.option_of(key, _KEYS - GROUPS) is not None or key in layer:
            continue
        if key in _MAPPINGS:
            # A mapping all of whose keys are commented out is null to YAML.
            value = {} if value is None else value
            if isinstance(value, dict):
                names = {entry.path[1] for entry in ENTRIES if len(entry.path) > 1 and entry.path[0] == key}
                files = _filed(value, names, source, ambient)
                value = {
                    name: Given(inner, source, ambient)
                    for name, inner in value.items()
                    if secret_files.option_of(name, names) is None
                } | files
        layer[key] = Given(value, source, ambient)
    return layer


def _filed(values: Mapping[Any, Any], known: Collection[Any], source: str, ambient: bool) -> Layer:
    """Those of ``values`` that name a file which has the value of one of the ``known`` options."""
    layer: Layer = {}
    for key, path in values.items():
        option = secret_files.option_of(key, known)
        if option is None:
            continue
        value = secret_files.read(path)
        if option in values:
            value = secret_files.Filed(fault=f"can't be given beside {option}")
        layer[option] = Given(value, f"{key}{secret_files.show_path(path)}, {source}", ambient)
    return layer


def overlay(lower: Layer, upper: Layer) -> Layer:
    """``upper`` over ``lower``: a layer in which mappings are merged."""
    layer = dict(lower)
    for key, value in upper.items():
        below = lower.get(key)
        if below and key in _MAPPINGS and isinstance(below.value, dict) and isinstance(value.value, dict):
            value = attrs.evolve(value, value=below.value | value.value)
        layer[key] = value
    return layer


def show(value: object) -> str:
    """``value`` on one short line, as an operator wrote it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, str) and "://" in value:
        return "a URL"  # it may hold a password, also where none is wanted
    try:
        text = repr(value)
    except ValueError:  # Python writes no decimal number of thousands of digits
        return "a huge number"
    return text if len(text) <= 80 else f"{text[:77]}..."


def show_name(name: object) -> str:
    """A key or a file's name, quoted only where it could be mistaken for something else."""
    return name if isinstance(name, str) and name.isprintable() and 0 < len(name) <= 250 else show(name)


def _default(field: attrs.Attribute[Any]) -> Any:
    default: Any = field.default
    return default.factory() if hasattr(default, "factory") else default


def _source(found: Given) -> str:
    """Where a value came from; the keys of a mapping may have come from several places."""
    inner = found.value.values() if isinstance(found.value, dict) else ()
    sources = {value.source: None for value in inner if isinstance(value, Given)}
    return ", ".join(sources) or found.source


class Reader:
    """Reads the options out of a layer.

    :ivar faults: a line for each value that can't be used; what was read is only of use while there is none
    :ivar told: every value, also those that are at their default
    :param place: where a missing option can be put: the file
    :param prefix: the prefix of environment variables
    :param parse: reads YAML text, and raises ValueError
    """

    def __init__(self, place: str, prefix: str, parse: Callable[[str], Any]) -> None:
        self._parse = parse
        self.faults: list[str] = []
        self.told: list[Told] = []
        self._number: int | None = None
        self._place = place
        self._prefix = prefix

    def daemon(self, layer: Layer) -> dict[str, Any]:
        """The values of ``DaemonOptions``."""
        self._refuse(layer, layer.keys() - _KEYS, "unknown option")
        values = self._values(DaemonOptions, layer, "the daemon", self._place)
        amqp = self._selector("amqp_url", layer)
        if amqp:
            # What a URL can't say, such as files, is left as it is.
            group = values.get("amqp", NOTHING)
            values["amqp"] = attrs.evolve(AmqpOptions() if group is NOTHING else group, **amqp)
            by_url = {f"amqp.{name}": value for name, value in amqp.items()}
            source = layer["amqp_url"].source
            for place, told in enumerate(self.told):
                if told.key in by_url:
                    self.told[place] = attrs.evolve(told, value=by_url[told.key], source=source)
        return values

    def applications(self, layer: Layer) -> list[tuple[type[ApplicationOptions], dict[str, Any]]]:
        """The class and the values of each application."""
        common = {key: value for key, value in layer.items() if key not in _DAEMON_KEYS - {"application"}}
        found = []
        if "applications" not in layer:
            own = {key: value for key, value in common.items() if key in _KEYS and not value.ambient}
            found.append(self._application(common, own, self._place))
        for number, entry in enumerate(self._selector("applications", layer) or ()):
            name = entry.get("connector_name")
            label = f" {show_name(name)}" if isinstance(name, str) else ""
            place = f"{layer['applications'].source}, applications[{number}]{label}"
            own = given(entry, place)
            found.append(self._application(overlay(common, own), own, place))
        self._refuse_clashes(found)
        return [(cls, values) for cls, values, _ in found if cls]

    def _application(
        self, layer: Layer, own: Layer, place: str
    ) -> tuple[type[ApplicationOptions] | None, dict[str, Any], str]:
        name = self._selector("application", layer)
        if "application" not in layer:
            self._missing("application", "the daemon", place)
        if name is None:
            self._refuse(own, own.keys() - _KEYS, "unknown option")
            return None, {}, place
        cls = APPLICATIONS[name]
        self._number = 0 if self._number is None else self._number + 1
        self._tell("application", SELECTORS["application"], name, layer["application"])
        keys = {field.name for field in attrs.fields(cls)} | {"application"}
        self._refuse(own, own.keys() & _DAEMON_KEYS - keys, "belongs at the top level")
        self._refuse(own, own.keys() - _DAEMON_KEYS - keys, f"unknown option of application {name}")
        return cls, self._values(cls, layer, f"application {name}", place), place

    def _selector(self, key: str, layer: Layer) -> Any:
        if key not in layer:
            return None
        value = self._accept(key, SELECTORS[key], layer[key])
        return None if value is NOTHING else value

    def _values(self, cls: type[Any], layer: Layer, owner: str, place: str) -> dict[str, Any]:
        """The values of those fields of ``cls`` that are given and right."""
        values: dict[str, Any] = {}
        for field in attrs.fields(cls):
            option: Option = field.metadata["option"]
            if field.name not in layer:
                if field.default is NOTHING:
                    self._missing(field.name, owner, place)
                if option.kind is types.GROUP:
                    self._group(field.name, type(field.default.factory()), Given({}, DEFAULT))
                else:
                    self._tell(field.name, option, _default(field), None)
            elif option.kind is types.GROUP:
                values[field.name] = self._group(field.name, type(field.default.factory()), layer[field.name])
            else:
                value = self._accept(field.name, option, layer[field.name])
                self._tell(field.name, option, value, layer[field.name])
                if value is not NOTHING:
                    values[field.name] = value
        return values

    def _group(self, key: str, cls: type[Any], group: Given) -> Any:
        if not isinstance(group.value, dict):
            self.faults.append(f"{key}: must be a mapping ({group.source})")
            return NOTHING
        values = {}
        fields = attrs.fields_dict(cls)
        options = {name: field.metadata["option"] for name, field in fields.items()}
        unknown = {f"{key}.{name}": value for name, value in group.value.items() if name not in options}
        self._refuse(unknown, unknown, "unknown option", known={f"{key}.{name}" for name in options})
        for name in options:
            if name in group.value:
                values[name] = self._accept(f"{key}.{name}", options[name], group.value[name])
            value = values.get(name, _default(fields[name]))
            self._tell(f"{key}.{name}", options[name], value, group.value.get(name))
        return cls(**{name: value for name, value in values.items() if value is not NOTHING})

    def _accept(self, key: str, option: Option, found: Given) -> Any:
        """The value as the option's kind has it; ``NOTHING``, and a fault, where it isn't one."""
        value = found.value
        if isinstance(value, secret_files.Filed):
            if value.text is None:
                self.faults.append(f"{key}: the file {value.fault} ({found.source})")
                return NOTHING
            value = value.text
            if option.kind.from_yaml:
                try:
                    value = self._parse(value)
                except ValueError as error:
                    self.faults.append(f"{key}: {error} ({found.source})")
                    return NOTHING
        elif option.kind is types.MAPPING and isinstance(value, dict):
            value = {name: inner.value for name, inner in value.items()}
        try:
            return option.kind.read(value)
        except ValueError as error:
            got = "" if option.secret else f", got {show(value)}"
            self.faults.append(f"{key}: {error}{got} ({found.source})")
            return NOTHING

    def _tell(self, key: str, option: Option, value: Any, found: Given | None) -> None:
        source = _source(found) if found else DEFAULT
        self.told.append(Told(self._number, key, value, source, option.secret))

    def _missing(self, key: str, owner: str, place: str) -> None:
        variable, flag = self._prefix + key.upper(), "--" + key.replace("_", "-")
        self.faults.append(f"{key}: required by {owner} (give it in {place}, as {variable} or as {flag})")

    def _refuse(
        self, layer: Layer, keys: Iterable[Any], reason: str, known: Iterable[str] = frozenset(_KEYS)
    ) -> None:
        refused = set(keys)
        for key in [key for key in layer if key in refused]:
            near = get_close_matches(key, known, 1) if isinstance(key, str) and key not in known else []
            hint = f"; did you mean {near[0]}?" if near else ""
            self.faults.append(f"{show_name(key)}: {reason}{hint} ({layer[key].source})")

    def _refuse_clashes(
        self, applications: Iterable[tuple[type[ApplicationOptions] | None, dict[str, Any], str]]
    ) -> None:
        connectors: dict[str, str] = {}
        paths: dict[tuple[str, str], str] = {}
        for cls, values, place in applications:
            name, http_bind = values.get("connector_name"), values.get("http_bind")
            if name is not None and connectors.setdefault(name, place) != place:
                self.faults.append(
                    f"connector_name: {show_name(name)} is taken twice ({connectors[name]}; {place})"
                )
            if cls is None or http_bind is None:
                continue
            path = values.get(cls.path_key, "")
            where = (endpoint_description(http_bind), path)
            if paths.setdefault(where, place) != place:
                self.faults.append(
                    f'{cls.path_key}: "{path}" on {http_bind} is taken twice ({paths[where]}; {place})'
                )
