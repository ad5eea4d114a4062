"""Translation of Junebug's configuration into options of the daemon: ``junebug.yml``, and what ``jb`` is given.

The keys are those of ``junebug/config.py``.  What has no meaning here is named in a warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias
from urllib.parse import quote

from junebug_turn.config.option import Schema
from junebug_turn.config.report import show_name
from junebug_turn.config.sources import Given, Layer, Translated
from junebug_turn.daemon.channels.options import REDIS
from junebug_turn.daemon.junebug.command_line import CONFIG, DOCKER_TYPES, Pieces, login, variables

_GROUPS = ("redis", "amqp")

# Junebug's option -> ours.
_SAME = {
    "sentry_dsn": "sentry_dsn",
    "amqp.hostname": "amqp.hostname",
    "amqp.port": "amqp.port",
    "amqp.username": "amqp.username",
    "amqp.password": "amqp.password",
    "amqp.vhost": "amqp.vhost",
    "redis.key_prefix": "channels.key_prefix",
    "max_logs": "channels.max_logs",
    "rabbitmq_management_interface": "channels.rabbitmq_management_interface",
}

# Junebug's option -> the option of each channel.
_DEFAULTS = {
    "allow_expired_replies": "allow_expired_replies",
    "metric_window": "metric_window",
    "inbound_message_ttl": "state_cache_config.inbound_ttl",
    "outbound_message_ttl": "state_cache_config.outbound_ttl",
}

_BIND = ("interface", "port")
_URL = ("redis.host", "redis.port", "redis.db", "redis.password")

_FILES = "the log lines of channels are kept in memory, for the API alone"
_WITHOUT_EFFECT = {
    "logfile": "twistd's flag --logfile names the log file",
    "channels": "channels can have these types, but their classes are not used: transports run elsewhere",
    "replace_channels": "Junebug's types of channels stay",
    "routers": "there is one type of router, from_address",
    "replace_routers": "there is one type of router, from_address",
    "plugins": "there are no plugins; paths of transports belong into the configuration of the HTTP proxy",
    "logging_path": _FILES,
    "log_rotate_size": _FILES,
    "max_log_files": _FILES,
    "amqp.db": "AMQP has no databases",
    "amqp.heartbeat": "the daemon agrees on heartbeats with the broker",
}

_VARIABLES_WITHOUT_EFFECT = {
    "JUNEBUG_REACTOR": "twistd chooses the reactor",
    "JUNEBUG_DISABLE_LOGGING": "log_level says how much is logged",
}

KEYS = frozenset(
    key.partition(".")[0]
    for key in (*_SAME, *_DEFAULTS, *_BIND, *_URL, *_WITHOUT_EFFECT, "allow_expired_replies")
)
"""The keys of junebug.yml at the top level."""


class Translation:
    """Translation of the configuration of one process.

    :param command: what the command line of ``jb`` gives; None where the process is not ``jb``, and the file alone says
        whether it is Junebug's
    """

    def __init__(self, schema: Schema, environ: Mapping[str, str], command: Pieces | None = None) -> None:
        self._ours = schema.keys - KEYS
        self._theirs = KEYS - schema.keys
        self._environ = environ
        self._command = command

    def __call__(self, values: Mapping[Any, Any], place: str) -> Translated | None:
        """Translate the values of a file; None where they are no junebug.yml's."""
        if self._command is None:
            if not values.keys() & self._theirs or values.keys() & self._ours:
                return None
            return self._translated(values, place, {}, {})
        return self._translated(values, place, variables(self._environ), self._command)

    def _translated(
        self, values: Mapping[Any, Any], place: str, docker: Pieces, command: Pieces
    ) -> Translated:
        faults: list[str] = []
        in_file = dict(_pieces(values, place, faults))
        given = docker | command
        every = in_file | given
        layer = _layer(_options(in_file), in_file, place)
        above = _layer((each for each in _options(every) if given.keys() & set(each[2])), every, place)
        if self._command is not None:
            self._add_docker(layer, docker, faults)
        warnings = list(_warnings(every, place, "logfile" if self._command is not None else ""))
        if self._command is not None:
            warnings += [
                f"{name}: {reason} (environment variable {name})"
                for name, reason in _VARIABLES_WITHOUT_EFFECT.items()
                if self._environ.get(name)
            ]
        return Translated(layer, above, faults, warnings)

    def _add_docker(self, layer: Layer, docker: Pieces, faults: list[str]) -> None:
        """Add what docker-junebug has beside Junebug: the proxy's path and login, and types of channels."""
        auth, found = login(self._environ)
        faults += found
        channels = layer["channels"].value
        if auth is not None:
            source = "environment variables AUTH_USERNAME and AUTH_PASSWORD"
            channels |= {"api_auth": Given(auth, source), "base_path": Given("/jb", source)}
        if auth is not None or docker:
            types = channels["extra_types"].value if "extra_types" in channels else ()
            channels["extra_types"] = Given([*types, *DOCKER_TYPES], "docker-junebug")


def _pieces(values: Mapping[Any, Any], place: str, faults: list[str]) -> Iterator[tuple[str, Given]]:
    """Yield the options of a file that have a value."""
    for key, value in values.items():
        if key in _GROUPS and value is not None:
            if not isinstance(value, dict):
                faults.append(f"{key}: must be a mapping ({place})")
                continue
            for name, inner in value.items():
                if inner is not None:
                    yield f"{key}.{show_name(name)}", Given(inner, place)
        elif value is not None:
            yield show_name(key), Given(value, place)


_Option: TypeAlias = tuple[str, Any, list[str]]
"""An option of ours, its value, and those of Junebug that it is from."""


def _options(pieces: Pieces) -> Iterator[_Option]:
    """Yield our options that these of Junebug mean, and those that they have without any."""

    def text(option: str, default: str) -> str:
        return str(pieces[option].value) if option in pieces else default

    def of(options: Iterable[str]) -> list[str]:
        return [option for option in options if option in pieces]

    host = text("interface", "localhost") or "0.0.0.0"  # noqa: S104  nosec B104  Junebug's meaning of none
    yield "http_bind", f"{_bracketed(host)}:{text('port', '8080')}", of(_BIND)
    password = text("redis.password", "")
    user = f":{quote(password, safe='')}@" if password else ""
    server = f"{quote(_bracketed(text('redis.host', 'localhost')), safe=':[]')}:{text('redis.port', '6379')}"
    yield "channels.store", REDIS, []
    yield "channels.url", f"redis://{user}{server}/{text('redis.db', '0')}", of(_URL)
    for theirs, ours in _SAME.items():
        if theirs in pieces:
            yield ours, pieces[theirs].value, of([theirs])
    defaults: dict[str, Any] = {}
    for theirs, ours in _DEFAULTS.items():
        if theirs in pieces:
            name, _, inner = ours.partition(".")
            value = pieces[theirs].value
            defaults |= {name: {**defaults.get(name, {}), inner: value} if inner else value}
    if defaults:
        yield "channels.defaults", defaults, of(_DEFAULTS)
    if "channels" in pieces and isinstance(pieces["channels"].value, dict) and pieces["channels"].value:
        yield "channels.extra_types", [str(name) for name in pieces["channels"].value], of(["channels"])


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _layer(options: Iterable[_Option], pieces: Pieces, place: str) -> Layer:
    layer: Layer = {}
    for key, value, origins in options:
        source = _source({origin: pieces[origin].source for origin in origins}, place)
        group, _, name = key.rpartition(".")
        if group:
            layer.setdefault(group, Given({}, source)).value[name] = Given(value, source)
        else:
            layer[name] = Given(value, source)
    return layer


def _source(sources: Mapping[str, str], place: str) -> str:
    """Return the source of an option of ours, by the sources of those that it is from."""
    in_file = ", ".join(option for option, source in sources.items() if source == place)
    others = dict.fromkeys(source for source in sources.values() if source != place)
    return " and ".join([*([f"{in_file} of {place}"] if in_file else []), *others]) or "Junebug's default"


def _warnings(pieces: Pieces, place: str, used: str) -> Iterator[str]:
    """Yield a line for each option that has no effect.

    :param used: one that has one after all
    """
    known = {*_SAME, *_DEFAULTS, *_BIND, *_URL, CONFIG, used}
    for option, given in pieces.items():
        if option not in known:
            reason = _WITHOUT_EFFECT.get(option, "unknown option of Junebug")
            yield f"{option}: {reason} ({given.source})"
