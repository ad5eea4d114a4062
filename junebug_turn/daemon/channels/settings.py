"""Settings of the channels that are made at run time: the options that all of them have, and those of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from attrs import define

from junebug_turn.applications.junebug.options import JunebugOptions
from junebug_turn.config import types
from junebug_turn.config.option import declared
from junebug_turn.config.resolver import read_mapping
from junebug_turn.daemon.channels.options import REDIS, ChannelsOptions
from junebug_turn.delivery.destination import Destination
from junebug_turn.errors import ConfigError, DeliveryRefused, InvalidBody
from junebug_turn.http.listening import ListenAddress

INBOUND_TTL, OUTBOUND_TTL = 600, 172800
"""Seconds for which Junebug keeps inbound and outbound messages."""

# What a channel has of its own, or of the API.
_OWN = frozenset(
    (
        "connector_name",
        "http_bind",
        "reuse_port",
        "base_url_path",
        "api_auth",
        "mo_message_url",
        "mo_message_url_auth_token",
        "amqp_queue",
        "status_url",
        "transport_status",
    )
)

# What Junebug did, where a configured application does something else.
_JUNEBUG = {"require_from": False, "forward_session_close": False}

# Property -> option, with the type that its value has to have.
_PROPERTIES = {
    "mo_url": "mo_message_url",
    "mo_url_auth_token": "mo_message_url_auth_token",
    "amqp_queue": "amqp_queue",
    "character_limit": "character_limit",
}


@define
class ChannelsSettings:
    """The options of the store and the API, and those that each channel begins with.

    :ivar http_bind: the address of the API and of the channels
    :ivar place: the configuration file, for a message to those who would change what it has
    """

    options: ChannelsOptions
    template: JunebugOptions
    http_bind: ListenAddress
    place: str

    def renew(self, settings: ChannelsSettings) -> None:
        """Use the secret of the defaults that were read again from now on; all else stays as it was."""
        self.template = attrs.evolve(self.template, webhook_secret=settings.template.webhook_secret)

    def path(self, *segments: str) -> str:
        """Return a path of the API."""
        return "/".join((self.options.base_path, *segments))

    def channel(self, id: str, properties: Mapping[str, Any]) -> JunebugOptions | None:
        """Return the options of a channel; None for one that has no application, and so takes no messages.

        :raises InvalidBody: a property can't be used
        """
        self.statuses(id, properties)
        if "mo_url" not in properties and "amqp_queue" not in properties:
            return None
        return self._application(id, self.path("channels", id), properties)

    def statuses(self, id: str, properties: Mapping[str, Any]) -> JunebugOptions:
        """Return the options for the statuses of a channel's transport, which need no application.

        :raises InvalidBody: a property can't be used
        """
        url = properties.get("status_url") or None
        return attrs.evolve(
            self.template,
            connector_name=id,
            status_url=None if url is None else _value("status_url", "status_url", url),
        )

    def destination(
        self, router: str, id: str, channel: str, properties: Mapping[str, Any]
    ) -> JunebugOptions:
        """Return the options of a router's destination, whose messages are those of a channel.

        :raises InvalidBody: a property can't be used
        """
        renamed = {name: value for name, value in properties.items() if name != "mo_url_token"}
        if "mo_url_token" in properties:
            renamed["mo_url_auth_token"] = properties["mo_url_token"]
        return self._application(channel, self.path("routers", router, "destinations", id), renamed)

    def _application(self, connector: str, path: str, properties: Mapping[str, Any]) -> JunebugOptions:
        given: dict[str, Any] = {
            option: _value(name, option, properties[name])
            for name, option in _PROPERTIES.items()
            if properties.get(name) not in (None, "")
        }
        if given.get("amqp_queue") == connector:
            raise _unusable(
                "amqp_queue", "must not be the channel itself: its messages would go round for ever"
            )
        return attrs.evolve(
            self.template,
            connector_name=connector,
            base_url_path=path,
            api_auth=self.options.api_auth,
            **given,
        )


_TYPES = {name: option.type for name, option, _ in declared(JunebugOptions)}


def _value(name: str, option: str, value: Any) -> Any:
    try:
        if option == "character_limit":
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise ValueError("must be a whole number from 0")
            return value
        read = _TYPES[option].read(types.text(value))
        if option in JunebugOptions.url_options:
            Destination.of(read, None)
        return read
    except (ValueError, DeliveryRefused) as error:
        raise _unusable(name, str(error)) from None


def _unusable(name: str, reason: str) -> InvalidBody:
    message = f"u'{name}' {reason}"
    return InvalidBody(message, ((message, ("properties", name)),))


def channels_settings(options: ChannelsOptions, http_bind: ListenAddress, place: str) -> ChannelsSettings:
    """Return the settings of the channels for these options.

    :raises ConfigError: a line for each fault
    """
    faults = list(_faults(options))
    given: dict[str, Any] = _JUNEBUG | {
        name: value for name, value in options.defaults.items() if name not in _OWN
    }
    try:
        template = read_mapping(
            JunebugOptions,
            {"mo_message_url": "http://none.invalid/"}
            | given
            | {"connector_name": "channels", "http_bind": http_bind.text},
            "channels.defaults.",
        )
    except ConfigError as error:
        faults += error.lines
    if faults:
        raise ConfigError(*(f"{line} ({place})" for line in faults))
    if "state_cache_class" not in given:
        template = attrs.evolve(
            template,
            state_cache_class=options.store or "",
            state_cache_config=_message_store(options) | dict(template.state_cache_config),
        )
    return ChannelsSettings(options, attrs.evolve(template, mo_message_url=""), http_bind, place)


def _faults(options: ChannelsOptions) -> Iterable[str]:
    needed = "url" if options.store == REDIS else "path"
    if getattr(options, needed) is None:
        yield f"channels.{needed}: required with channels.store: {options.store}"
    for name in sorted(_OWN & options.defaults.keys()):
        yield f"channels.defaults.{name}: each channel has its own"


def _message_store(options: ChannelsOptions) -> dict[str, Any]:
    """Return the options of the store of the channels' messages, which is where the channels are."""
    common = {"cache_timeout": options.cache_timeout}
    if options.store == REDIS:
        return {
            "url": options.url,
            "key_prefix": options.key_prefix,
            "inbound_ttl": INBOUND_TTL,
            "outbound_ttl": OUTBOUND_TTL,
            **common,
        }
    return {"path": options.path, "timeout": OUTBOUND_TTL, **common}
