"""An old deployment of Junebug, made in a Redis: what a move starts from.

``python -m tools.old_junebug`` fills an empty Redis with 40 channels of several types, messages that were received and
sent just now, events, statuses and two routers.  It writes the ``junebug.yml`` to it, and ``deployment.json`` with the
messages to try: Junebug forgets an inbound message after 10 minutes.

Tested by tests/integration/test_old_deployment.py.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from tools.old_junebug.deployment import INBOUND_TTL, OUTBOUND_TTL, Deployment
from tools.servers.redis import commands


def junebug_yml(redis_url: str, amqp_url: str, port: int, prefix: str = "") -> str:
    """Return the deployment's configuration file."""
    redis, amqp = urlsplit(redis_url), urlsplit(amqp_url)
    server: dict[str, Any] = {
        "host": redis.hostname,
        "port": redis.port or 6379,
        "db": int(redis.path.strip("/") or 0),
    }
    if redis.password:
        server["password"] = unquote(redis.password)
    if prefix:
        server["key_prefix"] = prefix
    values = {
        "interface": "127.0.0.1",
        "port": port,
        "redis": server,
        "amqp": {
            "hostname": amqp.hostname,
            "port": amqp.port or 5672,
            "username": unquote(amqp.username or "guest"),
            "password": unquote(amqp.password or "guest"),
            "vhost": unquote(amqp.path.removeprefix("/")) or "/",
        },
        "inbound_message_ttl": INBOUND_TTL,
        "outbound_message_ttl": OUTBOUND_TTL,
        "channels": {
            "aat_ussd": "vxaat.AatUssdTransport",
            "whatsapp": "vxyowsup.whatsapp.WhatsAppTransport",
        },
        "plugins": [{"type": "junebug.plugins.nginx.NginxPlugin", "server_name": "_"}],
        "logging_path": "logs/",
        "max_log_files": 5,
        "max_logs": 100,
    }
    return yaml.safe_dump(values, sort_keys=False)


def main(argv: Sequence[str]) -> int:
    """Make the deployment; 0, or 1 where the Redis can't be used."""
    parser = argparse.ArgumentParser(prog="python -m tools.old_junebug", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--redis", default="redis://127.0.0.1:6379/1", help="an empty database (%(default)s)")
    add(
        "--amqp",
        default="amqp://guest:guest@127.0.0.1:5672/%2F",
        help="the broker, for junebug.yml (%(default)s)",
    )
    add("--url", default="http://127.0.0.1:8081", help="where messages and events go (%(default)s)")
    add("--port", type=int, default=8080, help="the port of the API (%(default)s)")
    add("--directory", type=Path, default=Path(), help="where the files go, this one by default")
    options = parser.parse_args(argv)
    deployment = Deployment.of(options.url)
    try:
        (keys,) = commands(options.redis, [("DBSIZE",)])
        if keys:
            print(f"the database has {keys} keys already: name an empty one", file=sys.stderr)
            return 1
        commands(options.redis, list(deployment.commands(options.url)))
    except (OSError, ValueError) as error:
        print(f"the Redis can't be used: {error}", file=sys.stderr)
        return 1
    options.directory.mkdir(parents=True, exist_ok=True)
    file = options.directory / "junebug.yml"
    file.write_text(junebug_yml(options.redis, options.amqp, options.port), "utf-8")
    file.chmod(0o600)
    tries = {"received": deployment.received, "sent": deployment.sent}
    (options.directory / "deployment.json").write_text(json.dumps(tries, indent=2), "utf-8")
    print(
        f"{len(deployment.channels)} channels and {len(deployment.routers)} routers are in the Redis; {file} is their"
    )
    print(
        f"configuration, and {options.directory / 'deployment.json'} has messages to reply to (for 10 minutes)."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
