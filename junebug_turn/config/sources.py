"""The configuration: defaults, a YAML file, the environment and command line flags, one over the other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from attrs import frozen

from junebug_turn.applications.base import ApplicationOptions
from junebug_turn.config import types
from junebug_turn.config.report import Told
from junebug_turn.config.resolver import ENTRIES, GROUPS, Layer, Reader, given, overlay, show_name
from junebug_turn.config.secret_files import SUFFIX, option_of
from junebug_turn.daemon.options import DaemonOptions
from junebug_turn.errors import ConfigError


@frozen
class Settings:
    """The daemon's options and those of each application."""

    daemon: DaemonOptions
    applications: tuple[ApplicationOptions, ...]


def load(flags: Mapping[str, str], environ: Mapping[str, str]) -> Settings:
    """The settings of all layers.

    :param flags: option names such as ``amqp_hostname``, and ``config``, to the text given for them
    :param environ: the environment variables
    :raises ConfigError: one line for each fault
    """
    explained = explain(flags, environ)
    if explained.settings is None:
        raise ConfigError(*explained.faults)
    return explained.settings


@frozen
class Explained:
    """The configuration as it was read.

    :ivar settings: None where there are faults
    :ivar faults: a line for each
    :ivar told: every value, with where it came from
    """

    settings: Settings | None
    faults: tuple[str, ...]
    told: tuple[Told, ...]


def explain(flags: Mapping[str, str], environ: Mapping[str, str]) -> Explained:
    """The settings of all layers, with whatever there is to say of them; parameters as for ``load``."""
    layers = _Layers(flags, environ)
    layer = overlay(overlay(layers.file(), layers.environment()), layers.flags())
    reader = Reader(layers.place, layers.prefix, _parse)
    daemon, applications = reader.daemon(layer), reader.applications(layer)
    faults = tuple(dict.fromkeys(layers.faults + reader.faults))
    settings = None
    if not faults:
        settings = Settings(DaemonOptions(**daemon), tuple(cls(**values) for cls, values in applications))
    return Explained(settings, faults, tuple(reader.told))


class _Layers:
    """Reads each layer; ``faults`` has a line for whatever can't be read."""

    def __init__(self, flags: Mapping[str, str], environ: Mapping[str, str]) -> None:
        self.faults: list[str] = []
        self.place = "a configuration file"
        prefix = environ.get("VUMI_CONFIG_PREFIX", "")
        self.prefix = f"{prefix}_".upper() if prefix else ""
        self._flags = flags
        self._environ = environ

    def file(self) -> Layer:
        """The YAML file that the flag or else a variable names; nothing where there is none."""
        variables = ("JUNEBUG_TURN_CONFIG_FILE", "VUMI_CONFIG_FILE")
        named = [("flag --config", self._flags["config"])] if "config" in self._flags else []
        named += [(f"environment variable {v}", self._environ[v]) for v in variables if self._environ.get(v)]
        if not named:
            return {}
        source, path = named[0]
        self.place = show_name(path)
        try:
            value = _parse(Path(path).read_bytes())
            if value is not None and not isinstance(value, dict):
                raise ValueError("must be a mapping of options")
        except OSError as error:
            self.faults.append(f"config: can't read {self.place}: {error.strerror} ({source})")
        except ValueError as error:
            self.faults.append(f"config: {self.place}: {error} ({source})")
        else:
            return given(value or {}, self.place)
        return {}

    def environment(self) -> Layer:
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
        """Path, name, whether it is YAML and what may not stand beside it, of each variable there can be.

        Mappings come before what is in them.
        """
        for group in sorted(GROUPS):
            yield (group,), self.prefix + group.upper(), True, ""
        for entry in ENTRIES:
            variable = self.prefix + entry.name.upper()
            yield entry.path, variable, entry.option.kind.from_yaml, ""
            *parents, key = entry.path
            yield (*parents, key + SUFFIX), variable + SUFFIX.upper(), False, variable
            if entry.option.kind is types.MAPPING:
                for name in sorted(self._environ):
                    if name.startswith(f"{variable}_") and name != variable + SUFFIX.upper():
                        yield (*entry.path, name.removeprefix(f"{variable}_").lower()), name, True, ""

    def flags(self) -> Layer:
        """The command line's flags."""
        layer: Layer = {}
        known = {entry.name: entry for entry in ENTRIES}
        for name, text in self._flags.items():
            source = f"flag --{name.replace('_', '-')}"
            option = option_of(name, known)
            if name in known:
                layer = self._put(layer, known[name].path, text, known[name].option.kind.from_yaml, source)
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
            value: Any = _parse(text) if is_yaml else text
        except ValueError as error:
            self.faults.append(f"{'.'.join(path)}: {error} ({source})")
            return layer
        for key in reversed(path):
            value = {key: value}
        return overlay(layer, given(value, source, ambient=ambient))


class _Loader(yaml.SafeLoader):
    """YAML that guesses less: a number is only what looks like one to everybody, and a key stands once.

    YAML 1.1 reads 0721 as 465, 12:30 as 750 and 2001-01-01 as a date.  Here these are texts.
    """

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012  the base class's way

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError, AttributeError):
            # An explicit tag that doesn't fit, such as !!int x.
            raise yaml.constructor.ConstructorError(
                None, None, "a value that doesn't fit its tag", node.start_mark
            ) from None

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    problem = f"the key {show_name(key.value)} stands twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add((key.tag, key.value))
        return node


for _tag, _pattern, _first in (
    ("merge", r"<<", "<"),
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"(?i:true|false|yes|no|on|off)", "tTfFyYnNoO"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?|\.[0-9]+|\.(inf|Inf|INF))|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), [*_first, ""]
    )


_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")


def _without_content(quoted: re.Match[str]) -> str:
    """PyYAML quotes signs and <kinds>, but also aliases and tags, and an unquoted password may look like one."""
    content = quoted[1] or quoted[2] or ""
    return quoted[0] if len(content) < 2 or content.startswith("<") else "..."


def _parse(text: str | bytes) -> Any:
    """The value of one YAML document.

    :raises ValueError: it can't be read; the message says where and why, without quoting the text
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506  _Loader is a SafeLoader  # nosec B506
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = ", ".join(text for text in (error.context, error.problem) if text)
        raise ValueError(f"{where}{_QUOTED.sub(_without_content, problem)}") from None
    except yaml.reader.ReaderError as error:
        raise ValueError(f"not YAML text: {error.reason} at position {error.position}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
