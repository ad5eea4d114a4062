"""Sources of a configuration: a YAML file, the environment and command line flags, each as a layer of values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import attrs
from attrs import frozen

from junebug_turn.config import secret_files, yaml_text
from junebug_turn.config.option import Schema
from junebug_turn.config.report import show_name
from junebug_turn.config.secret_files import SUFFIX, option_of

SHARED_FILE = "VUMI_CONFIG_FILE"
"""The variable that names a file of vumi2, which may be for several kinds of worker."""

FILE_VARIABLES = ("JUNEBUG_TURN_CONFIG_FILE", SHARED_FILE)
"""The variables that name the file, the stronger first."""


@frozen
class Given:
    """A value with its source; the values of a mapping are ``Given`` too.

    :ivar ambient: from the environment, where other programs' variables stand as well
    :ivar shared: from a file that may be another worker's too, whose options aren't ours
    """

    value: Any
    source: str
    ambient: bool = False
    shared: bool = False

    @property
    def sources(self) -> str:
        """The source; the keys of a mapping may have several."""
        inner = self.value.values() if isinstance(self.value, dict) else ()
        found = {value.source: None for value in inner if isinstance(value, Given)}
        return ", ".join(found) or self.source


Layer: TypeAlias = dict[Any, Given]


@frozen
class Translated:
    """Our options that a file of another program means.

    :ivar layer: in place of the file's own values
    :ivar above: over the environment and the command line
    :ivar faults: a line for each value that can't be read
    :ivar warnings: a line for each option that has no effect here
    """

    layer: Layer
    above: Layer
    faults: Sequence[str]
    warnings: Sequence[str]


Translate: TypeAlias = Callable[[Mapping[Any, Any], str], Translated | None]
"""Translates the values of a file, with its name; None where they are our options already."""


def layer_of(
    schema: Schema, values: Mapping[Any, Any], source: str, *, ambient: bool = False, shared: bool = False
) -> Layer:
    """A layer of ``values`` that all come from ``source``, or from the files that ``<option>_file`` names there."""
    known = schema.keys - schema.groups.keys()
    layer = _from_files(values, known, source, ambient)
    for key, value in values.items():
        if option_of(key, known) is not None or key in layer:
            continue
        if key in schema.mappings:
            # A mapping all of whose keys are commented out is null to YAML.
            value = {} if value is None else value
            if isinstance(value, dict):
                names = schema.groups.get(key, set())
                files = _from_files(value, names, source, ambient)
                value = {
                    name: Given(inner, source, ambient, shared)
                    for name, inner in value.items()
                    if option_of(name, names) is None
                } | files
        layer[key] = Given(value, source, ambient, shared)
    return layer


def _from_files(values: Mapping[Any, Any], known: Collection[Any], source: str, ambient: bool) -> Layer:
    """The values of ``known`` options that stand in files which ``values`` name."""
    layer: Layer = {}
    for key, path in values.items():
        option = option_of(key, known)
        if option is None:
            continue
        value = secret_files.read(path)
        if option in values:
            value = secret_files.FileContent(fault=f"can't be given beside {option}")
        layer[option] = Given(value, f"{key}{secret_files.show_path(path)}, {source}", ambient)
    return layer


def overlay(schema: Schema, lower: Layer, upper: Layer) -> Layer:
    """``upper`` over ``lower``: a layer in which mappings are merged."""
    layer = dict(lower)
    for key, value in upper.items():
        below = lower.get(key)
        if (
            below
            and key in schema.mappings
            and isinstance(below.value, dict)
            and isinstance(value.value, dict)
        ):
            value = attrs.evolve(value, value=below.value | value.value)
        layer[key] = value
    return layer


class Sources:
    """Reads each source of a configuration.

    :ivar faults: a line for each source, or value in it, that can't be read
    :ivar warnings: a line for each option of another program that has no effect here
    :ivar unreadable: whether the file can't be read: then nobody knows what is missing
    :ivar place: the file's name, for a line about an option that could stand there
    :ivar prefix: the prefix of environment variables
    :ivar above: the layer of the environment and the command line, which are stronger than the file
    :param flags: option names such as ``amqp_hostname``, and ``config``, to the text given for them
    :param environ: the environment variables
    :param translate: reads files of another program
    """

    def __init__(
        self,
        schema: Schema,
        flags: Mapping[str, str],
        environ: Mapping[str, str],
        translate: Translate = lambda values, place: None,
    ) -> None:
        self.faults: list[str] = []
        self.warnings: list[str] = []
        self.unreadable = False
        self.place = "a configuration file"
        self.above: Layer = {}
        prefix = environ.get("VUMI_CONFIG_PREFIX", "")
        self.prefix = f"{prefix}_".upper() if prefix else ""
        self._schema = schema
        self._flags = flags
        self._environ = environ
        self._translate = translate

    def merged(self) -> Layer:
        """All sources, the stronger over the weaker."""
        values, shared = self._file()
        # A file that may be another worker's has many keys that aren't ours.
        translated = None if shared else self._translate(values, self.place)
        layer = layer_of(self._schema, values, self.place, shared=shared) if translated is None else {}
        self.above = overlay(self._schema, self._environment(), self._command_line())
        if translated is not None:
            layer = translated.layer
            self.above = overlay(self._schema, self.above, translated.above)
            self.faults += translated.faults
            self.warnings += translated.warnings
        return overlay(self._schema, layer, self.above)

    def _file(self) -> tuple[Mapping[Any, Any], bool]:
        """The values of the YAML file that the flag or else a variable names, and whether it may be another worker's.

        Nothing where there is none.
        """
        named = [("flag --config", self._flags["config"])] if "config" in self._flags else []
        variables = [variable for variable in FILE_VARIABLES if self._environ.get(variable)]
        named += [(f"environment variable {variable}", self._environ[variable]) for variable in variables]
        if len({self._environ[variable] for variable in variables}) > 1:
            used = "the flag --config" if "config" in self._flags else variables[0]
            unused = " and ".join(variable for variable in variables if variable != used)
            self.warnings.append(f"config: without effect: {unused}, since {used} names the file")
        if not named:
            return {}, False
        source, path = named[0]
        self.place = show_name(path)
        try:
            value = yaml_text.parse(Path(path).read_bytes())
            if value is not None and not isinstance(value, dict):
                raise ValueError("must be a mapping of options")
        except OSError as error:
            self.faults.append(f"config: can't read {self.place}: {error.strerror} ({source})")
        except ValueError as error:
            self.faults.append(f"config: {self.place}: {error} ({source})")
        else:
            return value or {}, source.endswith(f" {SHARED_FILE}")
        self.unreadable = True
        return {}, False

    def _environment(self) -> Layer:
        """The variables that are options; others aren't our concern."""
        layer: Layer = {}
        for path, variable, is_yaml, rival in self._variables():
            if variable in self._environ:
                source = f"environment variable {variable}"
                if rival in self._environ:
                    self.faults.append(f"{'.'.join(path)}: can't be given beside {rival} ({source})")
                    continue
                layer = self._put(layer, path, self._environ[variable], is_yaml, source, ambient=True)
        return layer

    def _variables(self) -> Iterator[tuple[tuple[str, ...], str, bool, str]]:
        """Path, name, whether it is YAML, and the rival that can't stand beside it, of each possible variable.

        Mappings come before the keys in them.
        """
        for group in sorted(self._schema.groups):
            yield (group,), self.prefix + group.upper(), True, ""
        for entry in self._schema.entries:
            variable = self.prefix + entry.variable
            for usual in entry.option.variables:
                yield entry.path, usual, entry.option.type.from_yaml, ""
            yield entry.path, variable, entry.option.type.from_yaml, ""
            *parents, key = entry.path
            yield (*parents, key + SUFFIX), variable + SUFFIX.upper(), False, variable
            if entry.option.type.merged:
                for name in sorted(self._environ):
                    if name.startswith(f"{variable}_") and name != variable + SUFFIX.upper():
                        yield (*entry.path, name.removeprefix(f"{variable}_").lower()), name, True, ""

    def _command_line(self) -> Layer:
        layer: Layer = {}
        known = {entry.name: entry for entry in self._schema.entries}
        for name, text in self._flags.items():
            source = f"flag --{name.replace('_', '-')}"
            option = option_of(name, known)
            if name in known:
                layer = self._put(layer, known[name].path, text, known[name].option.type.from_yaml, source)
            elif option in self._flags:
                self.faults.append(f"{option}: can't be given beside {option}{SUFFIX} ({source})")
            elif option is not None:
                *parents, key = known[option].path
                layer = self._put(layer, (*parents, key + SUFFIX), text, False, source)
            elif name != "config":
                self.faults.append(f"{show_name(name)}: unknown option ({source})")
        return layer

    def _put(
        self,
        layer: Layer,
        path: tuple[str, ...],
        text: str,
        is_yaml: bool,
        source: str,
        *,
        ambient: bool = False,
    ) -> Layer:
        try:
            value: Any = yaml_text.parse(text) if is_yaml else text
        except ValueError as error:
            self.faults.append(f"{'.'.join(path)}: {error} ({source})")
            return layer
        for key in reversed(path):
            value = {key: value}
        return overlay(self._schema, layer, layer_of(self._schema, value, source, ambient=ambient))
