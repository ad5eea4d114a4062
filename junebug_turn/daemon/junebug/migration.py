"""Configuration file for the channels of a Junebug: an application for each, and the transports that have to run.

What can't be carried over is a list of lines, which stands in the file too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from attrs import define, field

from junebug_turn.amqp.options import QUEUE_NAME
from junebug_turn.config import yaml_text
from junebug_turn.config.report import DEFAULT, Report, plain
from junebug_turn.daemon.channels.router_runner import channel_of
from junebug_turn.daemon.channels.settings import INBOUND_TTL, OUTBOUND_TTL, ChannelsSettings
from junebug_turn.daemon.junebug.transports import Transport, transport, transport_type
from junebug_turn.errors import InvalidBody
from junebug_turn.state.channel_store import CHANNELS, DESTINATIONS, ROUTERS, Definitions, Key
from junebug_turn.state.redis.address import RedisAddress

# Property -> option.
_PROPERTIES = {
    "mo_url": "mo_message_url",
    "mo_url_auth_token": "mo_message_url_auth_token",
    "amqp_queue": "amqp_queue",
    "status_url": "status_url",
    "character_limit": "character_limit",
}
_NO_API = (
    "the HTTP API that lists, makes and changes channels: with channels.store: redis it is there, and this file is not "
    "needed"
)


@define
class Migration:
    """The configuration that a Junebug's becomes.

    :ivar channels: the settings that junebug.yml means
    :ivar report: the values of the daemon's options, with their sources
    :ivar classes: type of channel -> class of its transport, as junebug.yml has them
    :ivar left_out: a line for each thing that can't be carried over
    """

    channels: ChannelsSettings
    report: Report = field(repr=False)
    classes: Mapping[str, Any]
    left_out: list[str] = field(factory=list)
    _blocks: list[str] = field(factory=list, init=False, repr=False)
    _others: list[str] = field(factory=list, init=False, repr=False)

    @property
    def count(self) -> int:
        """The number of channels that are carried over."""
        return len(self._blocks)

    def add(self, definitions: Definitions) -> None:
        """Add the channels of a store."""
        routed = {}
        for key, definition in sorted(definitions.items()):
            if key.kind == ROUTERS:
                routed[channel_of(definition.properties)] = key.id
                count = sum(each.kind == DESTINATIONS and each.router == key.id for each in definitions)
                self.left_out.append(
                    f"router {_name(key, definition.properties)} with {count} destinations: only a store of "
                    "channels has routers, with channels.store: redis"
                )
        queues: set[str] = set()
        for key, definition in sorted(definitions.items()):
            if key.kind == CHANNELS:
                reason = self._why_not(key.id, definition.properties, routed, queues)
                if reason is None:
                    self._blocks.append(self._block(key, definition.properties))
                else:
                    self.left_out.append(f"channel {_name(key, definition.properties)}: {reason}")
                    self._others.append(f"\n{self._comment(key, definition.properties)}")

    def text(self, source: str) -> str:
        """Return the configuration file.

        :param source: where the channels are from
        """
        head = [
            f"Written by junebug-turn import-junebug, from {source}.",
            "It has passwords and tokens: nobody but the daemon's user should be able to read it.",
            "",
            "Not carried over:",
            *(f"- {line}" for line in (*self.left_out, _NO_API)),
        ]
        blocks = "".join((*self._blocks, *self._others))
        return f"{_comment(head)}\n{yaml_text.dump(self._top())}\napplications:\n{blocks}"

    def _top(self) -> dict[str, Any]:
        """Return what stands at the top level: the daemon's options, and those that all channels share."""
        template, options = self.channels.template, self.channels.options
        stored: dict[str, Any] = {"url": options.url}
        if options.key_prefix:
            stored["key_prefix"] = options.key_prefix
        config = template.state_cache_config
        for name, default in (("inbound_ttl", INBOUND_TTL), ("outbound_ttl", OUTBOUND_TTL)):
            stored[name] = float(config.get(name, default))
        top: dict[str, Any] = {"amqp": self._amqp(), "http_bind": self.channels.http_bind.text}
        sentry = self.report.get("sentry_dsn")
        if sentry is not None and sentry.source != DEFAULT:
            top["sentry_dsn"] = plain(sentry.value)
        if options.api_auth is not None:
            top["api_auth"] = {"users": dict(options.api_auth.users)}
        return top | {
            "application": "junebug",
            "require_from": template.require_from,
            "forward_session_close": template.forward_session_close,
            "allow_expired_replies": template.allow_expired_replies,
            "metric_window": template.metric_window,
            "transport_status": True,
            "state_cache_class": "redis",
            "state_cache_config": stored,
        }

    def _amqp(self) -> dict[str, Any]:
        names = ("hostname", "port", "username", "password", "vhost")
        return {name: plain(self.report[f"amqp.{name}"].value) for name in names}

    def _why_not(
        self, id: str, properties: Mapping[str, Any], routed: Mapping[Any, str], queues: set[str]
    ) -> str | None:
        """Return the reason why a channel can't be an application; None where it can."""
        if id in routed:
            return f"its messages are those of router {routed[id]}"
        if not properties.get("mo_url") and not properties.get("amqp_queue"):
            return "it has neither mo_url nor amqp_queue, so nobody gets its messages"
        try:
            QUEUE_NAME.read(id)
            self.channels.channel(id, properties)
        except ValueError as error:
            return f"its id {error}"
        except InvalidBody as error:
            return str(error)
        names = {id, properties.get("amqp_queue") or id}
        if names & queues:
            return f"another channel has the queues of {', '.join(sorted(names & queues))}"
        queues |= names
        return None

    def _block(self, key: Key, properties: Mapping[str, Any]) -> str:
        """Return the application of a channel, below a comment with its transport."""
        options: dict[str, Any] = {
            "connector_name": key.id,
            "base_url_path": self.channels.path("channels", key.id),
            "transport_type": transport_type(properties.get("type")),
        }
        options |= {ours: properties[name] for name, ours in _PROPERTIES.items() if properties.get(name)}
        if properties.get("character_limit") == 0:
            options["character_limit"] = 0
        item = yaml_text.dump([options]).splitlines(keepends=True)
        return f"\n{self._comment(key, properties)}{''.join(f'  {line}' for line in item)}"

    def _comment(self, key: Key, properties: Mapping[str, Any]) -> str:
        """Return the comment with the transport of a channel."""
        type = properties.get("type")
        found = transport(key.id, type, properties.get("config"), self._amqp(), self.classes)
        return _comment(
            [f"Channel {_name(key, properties)}, of type {_quoted(type)}.", *_described(found)], "  "
        )


def read_source(address: RedisAddress) -> str:
    """Return the name of a Redis and its database, without its password."""
    return f"{address.name}, database {address.database}"


def _described(found: Transport | None) -> Iterator[str]:
    """Yield what the comment says of a transport."""
    if found is None:
        yield "Nothing says which transport it had: start one that has its id as transport_name."
        return
    if found.vumi2:
        yield f"Its transport: VUMI_CONFIG_FILE=FILE vumi2 worker {_plain(found.worker)}, with this as FILE:"
    else:
        worker = _plain(found.worker)
        yield f"vumi2 has no such transport.  vumi's: twistd -n vumi_worker --worker-class {worker} --config FILE"
        yield "(and --hostname, --port, --username, --password and --vhost for the broker), with this as FILE:"
    for line in yaml_text.dump(found.config).splitlines():
        yield f"    {line}"
    if found.lost:
        yield f"vumi2 does not have: {', '.join(map(_plain, found.lost))}"


def _comment(lines: Iterable[str], indent: str = "") -> str:
    return "".join(f"{indent}# {line}".rstrip() + "\n" for line in lines)


def _name(key: Key, properties: Mapping[str, Any]) -> str:
    label = properties.get("label")
    return f"{_plain(key.id)} ({_quoted(label)})" if isinstance(label, str) and label else _plain(key.id)


def _quoted(value: Any) -> str:
    """Return a text of a channel in quotes and in ASCII: none can end the comment that it stands in."""
    return json.dumps(value if isinstance(value, str) else None)[:200]


def _plain(text: str) -> str:
    return json.dumps(text)[1:-1][:200]
