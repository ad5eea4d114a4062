"""``junebug-turn import-junebug``: a configuration file from the channels in Junebug's Redis, and from junebug.yml.

It only reads from Redis.  The exit status is 0, or 1 where there is nothing that could be written.

Tested by tests/integration/test_import_junebug.py.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from junebug_turn.cli.terminal import Terminal, run_in_reactor
from junebug_turn.config import yaml_text
from junebug_turn.daemon.junebug.command_line import VARIABLES
from junebug_turn.daemon.settings import explain
from junebug_turn.errors import CacheError
from junebug_turn.net.clocks import use_monotonic
from junebug_turn.state.channel_store import Definitions
from junebug_turn.state.redis.address import RedisAddress

if TYPE_CHECKING:
    from junebug_turn.daemon.junebug.migration import Migration

TIMEOUT = 5.0
"""Seconds within which the Redis has to answer."""

MODE = 0o600


def add_parser(tools: Any, configuration: argparse.ArgumentParser) -> None:
    """Add the tool to those of a parser; ``run`` is the default of its argument ``run``.

    :param configuration: not used: it is Junebug's configuration that is read here
    """
    text = "write a configuration file from the channels in Junebug's Redis; the Redis is not changed"
    parser: argparse.ArgumentParser = tools.add_parser(
        "import-junebug", help=text, description=text, allow_abbrev=False
    )
    parser.set_defaults(run=run)
    parser.add_argument("--redis", metavar="URL", help="the Redis, redis://:password@host:port/database")
    parser.add_argument(
        "--config", metavar="FILE", help="the junebug.yml; it also names the Redis, unless --redis does"
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        default="junebug-turn.yaml",
        help="the file to write (%(default)s), or - for standard output",
    )


def run(flags: Mapping[str, str], arguments: argparse.Namespace) -> int:
    """Write the file and print what is not in it; returns the exit status."""
    # Imported here, since the other tools do without the parts of the daemon.
    from junebug_turn.daemon.junebug.migration import Migration, read_source

    terminal = Terminal(sys.stdout, sys.stderr, None)
    environ = {name: value for name, value in os.environ.items() if name in VARIABLES}
    given = {} if arguments.config is None else {"config": arguments.config}
    if arguments.redis is not None:
        try:
            RedisAddress.from_url(arguments.redis)
        except ValueError as error:
            terminal.complain(f"--redis: {error}")
            return 1
        given["channels_url"] = arguments.redis
        environ.pop("REDIS_HOST", None)
    elif arguments.config is None and "REDIS_HOST" not in environ:
        terminal.complain("name the Redis: --redis redis://host:port/database, or --config junebug.yml")
        return 1
    explained = explain(given, environ, {})
    if explained.settings is None or explained.settings.channels is None:
        for line in explained.faults:
            terminal.complain(line)
        return 1
    channels = explained.settings.channels
    address = RedisAddress.from_url(channels.options.url)
    try:
        definitions = _read(address, channels.options.key_prefix)
    except CacheError as error:
        terminal.complain(f"{address.name} can't be read: {error}")
        return 1
    migration = Migration(channels, explained.daemon, _classes(arguments.config))
    migration.left_out += explained.settings.warnings
    migration.add(definitions)
    if not migration.count:
        terminal.complain(f"{read_source(address)}: no channel there can be carried over")
        for line in migration.left_out:
            terminal.complain(line)
        return 1
    return _write(migration, migration.text(read_source(address)), arguments.output, terminal)


def _read(address: RedisAddress, key_prefix: str) -> Definitions:
    from twisted.internet import reactor

    # Imported here, since the other tools do without its library.
    from junebug_turn.state.redis.channels import RedisChannelStore

    use_monotonic(reactor)
    store = RedisChannelStore(reactor, url=address, key_prefix=key_prefix, cache_timeout=TIMEOUT)

    async def fetch() -> Definitions:
        await store.start()
        try:
            return await store.fetch()
        except CacheError as error:
            raise CacheError(store.status()["fault"]) from error
        finally:
            await store.stop()

    return run_in_reactor(reactor, fetch)


def _classes(config: str | None) -> Mapping[str, Any]:
    """Return the classes of types of channels in a junebug.yml that could be read before."""
    values = None if config is None else yaml_text.parse(Path(config).read_bytes())
    found = values.get("channels") if isinstance(values, dict) else None
    return found if isinstance(found, dict) else {}


def _write(migration: Migration, text: str, output: str, terminal: Terminal) -> int:
    if output == "-":
        terminal.out.write(text)
        return 0
    try:
        # Not over another file, and from the first byte on for its owner alone.
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
    except OSError as error:
        terminal.complain(f"can't write {output}: {error.strerror}")
        return 1
    terminal.say(f"{output}: {migration.count} channels, for nobody but you to read: it has their passwords.")
    if migration.left_out:
        terminal.say("Not carried over, as the file says too:")
        for line in migration.left_out:
            terminal.say(f"- {line}")
    faults = explain({"config": output}, {}).faults
    for line in faults:
        terminal.complain(line)
    return 1 if faults else 0
