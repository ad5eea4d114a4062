"""Turn's side of the demo: a command that sends a signed webhook of the Channels API and prints the answer.

The address and the secret are those of the Turn application in the daemon's configuration file.  It shares no code
with the daemon for what it sends: the form and the signature are Turn's.
"""

from __future__ import annotations

import argparse
import base64
import hmac
import http.client
import json
import os
import sys
import urllib.error
import urllib.request
from typing import Any

from junebug_turn.applications.turn.options import TurnOptions
from junebug_turn.config.types import each
from junebug_turn.daemon.settings import load
from junebug_turn.errors import ConfigError
from tools.demo.secrets import with_secrets
from tools.servers.process import ROOT

PHONE_NUMBER = "+27820000002"
TIMEOUT = 30.0  # seconds


def body_of(options: argparse.Namespace) -> dict[str, Any]:
    """Build the webhook's JSON, with the keys that Turn sends."""
    text = {"type": "text", "text": {"body": options.text}}
    return {
        "to": options.to,
        "from": options.from_addr,
        "turn": _menu(options.text, options.buttons) if options.buttons else text,
        "waiting_for_user_input": options.waiting,
        "content": None,
        "context": None,
        "block": None,
        "resources": None,
        "evaluated_resources": None,
    }


def _menu(text: str, titles: list[str]) -> dict[str, Any]:
    buttons = [
        {"type": "reply", "reply": {"id": f"button-{number}", "title": title}}
        for number, title in enumerate(titles, 1)
    ]
    interactive = {"type": "button", "body": {"text": text}, "action": {"buttons": buttons}}
    return {"type": "interactive", "interactive": interactive}


def signature(secret: str, body: bytes) -> str:
    """Sign ``body``: the value of ``X-Turn-Hook-Signature``."""
    return base64.b64encode(hmac.digest(secret.encode(), body, "sha256")).decode("ascii")


def send(url: str, secret: str, body: bytes) -> tuple[int, str]:
    """POST a webhook; the answer's status and body.

    :raises OSError: there was no answer
    """
    headers = {"Content-Type": "application/json", "X-Turn-Hook-Signature": signature(secret, body)}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=TIMEOUT) as answer:
            return answer.status, answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode("utf-8", "replace")


def destination(options: argparse.Namespace) -> tuple[str, str]:
    """Find the URL that the webhook goes to, and the secret that signs it: the file's, or that of ``make run``.

    :raises ConfigError: the configuration file has a fault
    :raises ValueError: it has no Turn application
    """
    if options.url is not None and options.secret is not None:
        return options.url, options.secret
    environ = with_secrets(options.config, os.environ)
    for application in load({"config": options.config}, environ).applications:
        if isinstance(application, TurnOptions):
            url = f"http://{application.http_bind}{application.path}/messages"
            return options.url or url, options.secret or each(application.turn_hmac_secret)[0]
    raise ValueError(f"{options.config} has no turn application; give --url and --secret")


def arguments(argv: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo.webhook", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("text", nargs="?", default="Hello from Turn!", help="what the phone shows (%(default)s)")
    add("--to", default=PHONE_NUMBER, help="the phone's number (%(default)s)")
    add("--from", dest="from_addr", help="the from address; without it the channel's default_from_addr")
    add("--waiting", action="store_true", help="wait for an answer: the session goes on, else it ends")
    add("--buttons", nargs="+", metavar="TITLE", help="a menu of these under the text")
    add("--count", type=int, default=1, help="send it as often, and see Turn's quota (%(default)s)")
    add("--config", default=str(ROOT / "etc" / "junebug-turn.yaml"), help="the daemon's file (%(default)s)")
    add("--url", help="where to POST; without it what the file says")
    add("--secret", help="what to sign with; without it turn_hmac_secret of the file")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Send the webhook; 0 when it was answered 200 each time, else 1."""
    options = arguments(argv)
    try:
        body = json.dumps(body_of(options), ensure_ascii=False).encode()
        url, secret = destination(options)
        statuses = [_sent(url, secret, body) for _ in range(options.count)]
    except (ConfigError, ValueError, OSError, http.client.HTTPException) as error:
        print(f"webhook | not sent: {error}", file=sys.stderr)
        return 1
    return 0 if set(statuses) <= {200} else 1


def _sent(url: str, secret: str, body: bytes) -> int:
    status, answer = send(url, secret, body)
    print(f"webhook | POST {url} -> {status}\n{answer}", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
