"""The channels that are made at run time, with their store and their HTTP API, made from the settings.

Tested by tests/integration/test_channels.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from twisted.web.resource import IResource

from junebug_turn.amqp.broker import Broker
from junebug_turn.applications.base import ApplicationOptions
from junebug_turn.applications.junebug.messages import OutboundRequest
from junebug_turn.applications.junebug.options import JunebugOptions
from junebug_turn.applications.registry import type_of
from junebug_turn.daemon.channels.channels import Channels
from junebug_turn.daemon.channels.options import REDIS, ChannelsOptions
from junebug_turn.daemon.channels.queues import CountedQueues, ManagedQueues, queue_names
from junebug_turn.daemon.channels.routers import Routers
from junebug_turn.daemon.channels.runner import ChannelRunner
from junebug_turn.daemon.channels.running import MakeServices, Parts
from junebug_turn.daemon.channels.service import ChannelsService
from junebug_turn.daemon.channels.settings import ChannelsSettings
from junebug_turn.daemon.channels.status import ChannelStatus
from junebug_turn.daemon.queue_counts import QueueCounts
from junebug_turn.daemon.settings import Settings
from junebug_turn.http.admin.channels.api import Below, ChannelsApi
from junebug_turn.http.admin.channels.health import ChannelsHealth
from junebug_turn.http.admin.channels.routers_api import RoutersApi
from junebug_turn.http.admin.health import Health
from junebug_turn.http.authentication import Authenticator
from junebug_turn.http.mounts import Mount, Mounts
from junebug_turn.state.channel_records import ChannelRecords
from junebug_turn.state.channel_store import ChannelStore
from junebug_turn.state.factory import make_store
from junebug_turn.state.message_store import MessageStore
from junebug_turn.state.redis.address import RedisAddress
from junebug_turn.telemetry.logging.channel_logs import ChannelLogs
from junebug_turn.telemetry.metrics import Metrics


def make_channels(
    reactor: Any,
    settings: Settings,
    channels: ChannelsSettings,
    *,
    broker: Broker,
    services: MakeServices,
    mounts: Mounts,
    configured: Mapping[str, Mount],
    stores: Mapping[str, MessageStore],
    metrics: Metrics,
    applications: dict[str, str],
    components: Callable[[], Mapping[str, Mapping[str, Any]]],
    queue_counts: QueueCounts,
) -> ChannelsService:
    """Make the service of channels, and mount its API.

    :param mounts: those of the server of the API
    :param configured: connector -> the mount of its configured application
    :param stores: connector -> the store of its configured application
    :param applications: connector -> word of its application; the channels are added
    :param components: returns the state of each component of the daemon
    :raises ConfigError: the options of the messages' store can't be used
    """
    options = channels.options
    logs = ChannelLogs(options.max_logs, full=settings.daemon.log_addresses == "full")
    messages = _message_store(channels, reactor)
    messages.sibling("")  # raises where it can have none
    authenticator = Authenticator(options.api_auth)
    runner = ChannelRunner(
        settings=channels,
        parts=Parts(broker, services, messages),
        mounts=mounts,
        authenticator=authenticator,
        logs=logs,
        metrics=metrics,
        applications=applications,
        configured=frozenset(configured),
    )
    service = ChannelsService(reactor, _channel_store(options, reactor), messages, runner)
    names = {each.connector_name: each for each in settings.applications}
    for name in names:
        logs.add(name)
    resources = {
        name: configured[name].resource for name, each in names.items() if isinstance(each, JunebugOptions)
    }

    def records(channel: str) -> ChannelRecords:
        store = stores.get(channel) or messages.sibling(channel)
        # Where there is an application its own window counts.
        return store.channel_records(channels.template.metric_window)

    backend = Channels(
        service,
        runner,
        channels,
        ChannelStatus(broker, records),
        logs,
        {name: _shown(each) for name, each in names.items()},
        resources,
    )
    depth = settings.daemon.limits.max_json_depth
    check = OutboundRequest.from_json
    routers = Routers(service, runner, channels, logs)
    apis = {
        "channels": ChannelsApi(backend, check, depth).router.resource(),
        "routers": RoutersApi(routers, check, depth).router.resource(),
    }
    for first, api in apis.items():
        mounts.add(channels.path(first), Mount(Below(api, first), authenticator=authenticator))
    for name, resource in resources.items():
        _mount_configured(mounts, channels, names[name], resource, apis["channels"], authenticator)
    _mount_health(reactor, settings, channels, service, mounts, components, queue_counts)
    return service


def _mount_configured(
    mounts: Mounts,
    channels: ChannelsSettings,
    options: ApplicationOptions,
    resource: IResource,
    api: IResource,
    authenticator: Authenticator,
) -> None:
    """Mount the messages of a configured application where those of channels are."""
    path = channels.path("channels", options.connector_name)
    own = options.http_bind == channels.http_bind and options.path == path
    if own:
        # There its own authentication counts; the rest of the path is the API's.
        mounts.add(path, Mount(Below(api, "channels", options.connector_name), authenticator=authenticator))
    mount = Mount(
        Below(resource, "messages"),
        options.connector_name,
        authenticator=Authenticator(options.api_auth) if own else authenticator,
    )
    mounts.add(f"{path}/messages", mount)


def _mount_health(
    reactor: Any,
    settings: Settings,
    channels: ChannelsSettings,
    service: ChannelsService,
    mounts: Mounts,
    components: Callable[[], Mapping[str, Mapping[str, Any]]],
    queue_counts: QueueCounts,
) -> None:
    """Mount the health page with the queues; as behind the proxy of Junebug, without authentication."""
    configured = [each.connector_name for each in settings.applications]

    def names() -> list[str]:
        return queue_names(service.definitions, configured)

    interface = channels.options.rabbitmq_management_interface
    queues: ManagedQueues | CountedQueues = CountedQueues(names, queue_counts.latest)
    if interface is not None:
        queues = ManagedQueues(reactor, interface, settings.daemon.amqp, names)
    page = Mount(ChannelsHealth(components, queues.report).router.resource())
    for path in {Health.path, channels.path("health")}:
        mounts.add(path, page)


def _channel_store(options: ChannelsOptions, reactor: Any) -> ChannelStore:
    # Imported here, since each needs libraries that the other doesn't.
    if options.store == REDIS:
        from junebug_turn.state.redis.channels import RedisChannelStore

        return RedisChannelStore(
            reactor,
            url=RedisAddress.from_url(options.url),
            key_prefix=options.key_prefix,
            cache_timeout=options.cache_timeout,
        )
    from junebug_turn.state.sqlite.channels import SqliteChannelStore

    return SqliteChannelStore(reactor, path=str(options.path), cache_timeout=options.cache_timeout)


def _message_store(channels: ChannelsSettings, reactor: Any) -> MessageStore:
    template = channels.template
    return make_store(
        template.store_class,
        template.store_config,
        option="channels.defaults.state_cache",
        connector="channels",
        clock=reactor,
        remember_last=template.remember_last,
    )


def _shown(options: ApplicationOptions) -> dict[str, Any]:
    """Return what the API shows of a configured application: no secrets."""
    shown: dict[str, Any] = {"type": type_of(options).name, "config": {}}
    if isinstance(options, JunebugOptions) and options.mo_message_url:
        parts = urlsplit(options.mo_message_url)
        shown["mo_url"] = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    if options.character_limit is not None:
        shown["character_limit"] = options.character_limit
    return shown
