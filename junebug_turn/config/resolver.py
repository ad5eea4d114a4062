"""From layers to the values of option classes, with one line for each fault.

All faults are collected, and no line holds a secret.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

import attrs
from attrs import NOTHING, define

from junebug_turn.config import types, yaml_text
from junebug_turn.config.option import Option, Schema, declared
from junebug_turn.config.report import DEFAULT, Report, Reported, show, show_name
from junebug_turn.config.secret_files import FileContent
from junebug_turn.config.sources import Given, Layer
from junebug_turn.errors import ConfigError

UNKNOWN = "unknown option"
"""The reason against an option that nobody here has; more words may follow."""

SERVICE_LINK = "; Kubernetes made it of a Service of that name: set enableServiceLinks: false for the pod"
"""The remedy for a variable that no person has set, as ``AMQP_PORT=tcp://10.96.0.7:5672``."""

_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://[0-9A-Fa-f.:\[\]]+:\d+")

_T = TypeVar("_T")


@define
class Resolver:
    """Reads the options of one part of the program out of a layer.

    :ivar schema: all options that there are
    :ivar faults: gets a line for each value that can't be used; the values read are only of use while there is none
    :ivar owner: the part of the program, for a line about a missing option
    :ivar place: the file where a missing option can be put
    :ivar prefix: the prefix of environment variables
    :ivar report: every value, also those that are at their default
    :ivar warnings: gets a line for each unknown option that may be another worker's
    :ivar whole: whether all sources could be read; else nothing is known to be missing
    """

    schema: Schema
    faults: list[str]
    owner: str
    place: str
    prefix: str
    report: Report = attrs.field(factory=dict)
    warnings: list[str] = attrs.field(factory=list)
    whole: bool = True

    def values(self, cls: type[Any], layer: Layer, within: str = "") -> dict[str, Any]:
        """The values of those options of ``cls`` that are given and right.

        :param within: the key of the group that ``cls`` is, with a dot
        """
        values: dict[str, Any] = {}
        for name, option, default in declared(cls):
            key, found = within + name, layer.get(name)
            if option.group is not None:
                values[name] = self._group(key, option.group, found or Given({}, DEFAULT))
            elif found is not None:
                value = self.accept(key, option, found)
                self.report[key] = Reported(option, value, found.sources)
                if value is not NOTHING:
                    values[name] = value
            else:
                if default is NOTHING:
                    self.missing(key)
                self.report[key] = Reported(option, default, DEFAULT)
        return values

    def _group(self, key: str, cls: type[Any], group: Given) -> Any:
        if not isinstance(group.value, dict):
            self.faults.append(f"{key}: must be a mapping ({group.source})")
            return cls()
        known = [f"{key}.{name}" for name, *_ in declared(cls)]
        unknown = {f"{key}.{name}": value for name, value in group.value.items()}
        self.refuse(unknown, unknown.keys() - set(known), UNKNOWN, known)
        return cls(**self.values(cls, group.value, f"{key}."))

    def accept(self, key: str, option: Option, found: Given) -> Any:
        """The value as the option's type reads it; ``NOTHING``, and a fault, where it can't be used."""
        value = found.value
        try:
            if isinstance(value, FileContent):
                if value.text is None:
                    raise ValueError(f"the file {value.fault}")
                value = yaml_text.parse(value.text) if option.type.from_yaml else value.text
            elif option.type.merged and isinstance(value, dict):
                value = {name: inner.value for name, inner in value.items()}
        except ValueError as error:
            self.faults.append(f"{key}: {error} ({found.source})")
            return NOTHING
        try:
            return option.type.read(value)
        except ValueError as error:
            got = "" if option.secret else f", got {show(value)}"
            hint = SERVICE_LINK if found.ambient and _is_service_link(value) else ""
            self.faults.append(f"{key}: {error}{got} ({found.source}){hint}")
            return NOTHING

    def missing(self, key: str, unless: str = "") -> None:
        """Tell of a required option that is given nowhere.

        :param unless: the option that could stand in for it
        """
        if not self.whole:
            return
        without = f" without {unless}" if unless else ""
        variable, flag = self.prefix + key.upper(), "--" + key.replace("_", "-")
        self.faults.append(
            f"{key}: required by {self.owner}{without} (give it in {self.place}, as {variable} or as {flag})"
        )

    def refuse(
        self, layer: Layer, keys: Collection[Any], reason: str, known: Collection[str] | None = None
    ) -> None:
        """Tell of those ``keys`` of ``layer`` that can't stand there, with the nearest of ``known``.

        In a file that may be another worker's an unknown one is no fault; one that is only misplaced is.
        """
        known = self.schema.keys if known is None else known
        for key in [key for key in layer if key in keys]:
            hint = f"; did you mean {near}?" if (near := _nearest(key, known)) else ""
            lines = self.warnings if layer[key].shared and reason.startswith(UNKNOWN) else self.faults
            lines.append(f"{show_name(key)}: {reason}{hint} ({layer[key].source})")


def _is_service_link(value: Any) -> bool:
    return isinstance(value, str) and _SERVICE_LINK.fullmatch(value) is not None


def _nearest(key: Any, known: Collection[str]) -> str | None:
    """The one of ``known`` that a person may have meant by ``key``, which is none of them."""
    if not isinstance(key, str) or key in known:
        return None
    longer = [name for name in known if len(key) > 2 and name.startswith(key)]
    return next(iter(longer if len(longer) == 1 else get_close_matches(key, known, 1)), None)


# The types of fields without an option, by their annotations, as users' middlewares have them.
_BY_ANNOTATION = {
    "str": types.ANY_TEXT,
    "bool": types.BOOLEAN,
    "int": types.whole(),
    "list[str]": types.TEXTS,
}


def read_mapping(cls: type[_T], values: Mapping[str, Any], prefix: str = "", owner: str = "") -> _T:
    """The instance of an option class that ``values`` describe: the options of a store or of a middleware.

    A field that isn't declared by ``option`` is checked where its annotation is ``str``, ``bool``, ``int`` or
    ``list[str]``.

    :param prefix: stands before the option's name in the line of a fault, with its dot
    :param owner: the name for the options' owner in such a line
    :raises ConfigError: a line for each option that is missing, unknown or of a wrong type; none holds a value,
        which may be a secret
    """
    fields = {field.name: field for field in attrs.fields(cls)}  # type: ignore[arg-type]
    unknown = f"unknown option of {owner}" if owner else f"unknown option; known are {', '.join(fields)}"
    faults = [f"{prefix}{name}: {unknown}" for name in values if name not in fields]
    read: dict[str, Any] = {}
    for name, field in fields.items():
        if name not in values:
            if field.default is NOTHING:
                faults.append(f"{prefix}{name}: {f'required by {owner}' if owner else 'required option'}")
            continue
        try:
            read[name] = _type_of(field).read(values[name])
        except ValueError as error:
            faults.append(f"{prefix}{name}: {error}")
    if faults:
        raise ConfigError(*faults)
    return cls(**read)


def _type_of(field: attrs.Attribute[Any]) -> types.ValueType:
    if "option" in field.metadata:
        option: Option = field.metadata["option"]
        return option.type
    # Without "from __future__ import annotations" it is no text.
    annotation = field.type.__name__ if isinstance(field.type, type) else str(field.type)
    return _BY_ANNOTATION.get(annotation, types.ANY)
