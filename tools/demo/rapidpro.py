"""RapidPro's side of the demo: a command that sends a message as a family of RapidPro does, and prints the answers.

The address is that of the RapidPro application in the daemon's configuration file.  What comes from the daemon goes to
the receiver (receiver.py), which answers by the same rules: courier.py has them.
"""

from __future__ import annotations

import argparse
import http.client
import os
import sys
import urllib.error
import urllib.request
from typing import TypeVar

from junebug_turn.applications.base import ApplicationOptions
from junebug_turn.applications.kannel.options import KannelOptions
from junebug_turn.applications.rapidpro.options import RapidProOptions
from junebug_turn.daemon.settings import load
from junebug_turn.errors import ConfigError
from tools.demo import courier
from tools.demo.courier import Outgoing, SendRequest
from tools.demo.secrets import with_secrets
from tools.servers.process import ROOT

PHONE_NUMBER = "+27820000003"
KANNEL_PHONE_NUMBER = "+27820000004"
QUERY = "?id={{id}}&session_status={{session_status}}"
TIMEOUT = 30.0  # seconds

_Options = TypeVar("_Options", bound=ApplicationOptions)


def send(request: SendRequest) -> tuple[int, str]:
    """Make a request; the answer's status and body.

    :raises OSError: there was no answer
    """
    data = request.body if request.method != "GET" else None
    made = urllib.request.Request(request.url, data, request.headers, method=request.method)
    try:
        with urllib.request.urlopen(made, timeout=TIMEOUT) as answer:
            return answer.status, answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode("utf-8", "replace")


def requests_of(options: argparse.Namespace) -> list[SendRequest]:
    """Make the requests that the command line asks for.

    :raises ConfigError: the configuration file has a fault
    :raises ValueError: it has no RapidPro application, or no Kannel application
    """
    message = Outgoing(
        text=options.text,
        to=options.to or (KANNEL_PHONE_NUMBER if options.kannel else PHONE_NUMBER),
        sender=options.from_addr,
        id=options.id or courier.new_id(options.family, int.from_bytes(os.urandom(4))),
        session_status="W" if options.waiting else "C" if options.completed else "",
        quick_replies=options.quick_replies,
    )
    if options.kannel:
        kannel = _application(options.config, KannelOptions)
        users = kannel.api_auth.users if kannel.api_auth else {}
        user, password = next(iter(users.items()), ("", ""))
        url = options.url or f"http://{kannel.http_bind}{kannel.path}/cgi-bin/sendsms"
        callback = kannel.receive_url.removesuffix("/receive")
        return [courier.kannel(options.family, url, message, callback, user, password)]
    url = options.url
    if url is None:
        external = _application(options.config, RapidProOptions)
        url = f"http://{external.http_bind}{external.path}/send{QUERY}"
    return courier.external(
        options.family,
        url,
        message,
        content=options.content,
        max_length=options.max_length,
        authorization=options.authorization,
    )


def _application(config: str, kind: type[_Options]) -> _Options:
    # Other applications of the file may lack their secrets, which the demo makes.
    environ = with_secrets(config, os.environ)
    for application in load({"config": config}, environ).applications:
        if isinstance(application, kind):
            return application
    name = "kannel" if kind is KannelOptions else "rapidpro"
    raise ValueError(f"{config} has no {name} application")


def arguments(argv: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo.rapidpro", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("text", nargs="?", default="Hello from RapidPro!", help="what the phone shows (%(default)s)")
    add("--family", choices=courier.FAMILIES, default="current", help="whose requests to make (%(default)s)")
    add("--content", choices=("form", "json", "get"), default="form", help="their form (%(default)s)")
    add("--to", help="the phone's number; without it that of `make run`")
    add("--from", dest="from_addr", default="8864", help="the channel's address (%(default)s)")
    add("--id", help="the message's id, to send one again; without it a new one")
    status = parser.add_mutually_exclusive_group()
    status.add_argument("--waiting", action="store_true", help="the flow waits for an answer")
    status.add_argument(
        "--completed", action="store_true", help="the flow has ended, and so does the session"
    )
    add("--quick-replies", nargs="+", default=[], metavar="TEXT", help="a menu of these under the text")
    add("--max-length", type=int, default=160, help="where a long text is split, in bytes (%(default)s)")
    add("--authorization", help="the whole value of the Authorization header")
    add("--kannel", action="store_true", help="as RapidPro's Kannel channel, in place of the External one")
    add("--config", default=str(ROOT / "etc" / "junebug-turn.yaml"), help="the daemon's file (%(default)s)")
    add("--url", help="the send URL, a template; without it what the file says")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Send one message, in parts if it is long; 0 when all were accepted, else 1."""
    options = arguments(argv)
    accepted = True
    try:
        for request in requests_of(options):
            status, answer = send(request)
            outcome = courier.judged(options.family, status, answer)
            # Without the query, which may have a password.
            url = request.url.partition("?")[0]
            print(f"rapidpro | {request.method} {url} -> {status}: {outcome}\n{answer.strip()}", flush=True)
            accepted = accepted and outcome == "wired"
    except (ConfigError, ValueError, OSError, http.client.HTTPException) as error:
        print(f"rapidpro | not sent: {error}", file=sys.stderr)
        return 1
    return 0 if accepted else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
