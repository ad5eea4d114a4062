"""The command that sends a webhook as Turn does."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from junebug_turn.applications.turn.menus import Choice
from junebug_turn.applications.turn.messages import OutboundRequest
from junebug_turn.applications.turn.signature import sign
from tests.support.configurations import JUNEBUG, TURN, written
from tools.demo.webhook import arguments, body_of, signature
from tools.servers.process import ROOT, free_port


class Channel(HTTPServer):
    """Takes webhooks and remembers them.

    :ivar requests: path, signature and body of each
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, str, bytes]] = []
        self.status = 200


class _Handler(BaseHTTPRequestHandler):
    server: Channel

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, self.headers["X-Turn-Hook-Signature"], body))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(b'{"answer": true}')

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def channel() -> Iterator[Channel]:
    """A channel that listens."""
    with Channel() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.demo.webhook", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)


def request(*words: str) -> OutboundRequest:
    return OutboundRequest.from_json(body_of(arguments(list(words))), render_interactive=True)


def test_it_sends_to_the_channel_of_the_file(channel: Channel, tmp_path: Path) -> None:
    """The file's Turn application says where to POST and what to sign with; the answer is printed, status 0."""
    bind = f"127.0.0.1:{channel.server_port}"
    turn = {**TURN, "http_bind": bind, "turn_hmac_secret": "sécret"}
    config = written(tmp_path / "c.yaml", {"applications": [JUNEBUG, turn]})["config"]
    done = run("Sawubona é", "--config", config)
    ((path, signed, body),) = channel.requests
    assert (path, signed) == ("/turn/messages", sign("sécret".encode(), body).decode())
    assert json.loads(body)["turn"] == {"type": "text", "text": {"body": "Sawubona é"}}
    assert done.stdout == f'webhook | POST http://{bind}/turn/messages -> 200\n{{"answer": true}}\n'
    assert done.returncode == 0


def test_several(channel: Channel) -> None:
    """With --count the webhook is sent as often; the status is 0 when each was taken."""
    url = f"http://127.0.0.1:{channel.server_port}/x"
    assert run("Hello", "--url", url, "--secret", "s", "--count", "3").returncode == 0
    assert len(channel.requests) == 3


def test_another_channel(channel: Channel) -> None:
    """--url and --secret need no file; an answer that is no 200 is printed, status 1."""
    channel.status = 401
    url = f"http://127.0.0.1:{channel.server_port}/x"
    done = run("hi", "--url", url, "--secret", "s", "--config", "/no/such/file")
    ((path, signed, body),) = channel.requests
    assert (path, signed) == ("/x", sign(b"s", body).decode())
    assert (done.stdout.split("\n")[0], done.returncode) == (f"webhook | POST {url} -> 401", 1)


@pytest.mark.parametrize(
    "words",
    [
        ("--url", f"http://127.0.0.1:{free_port()}/", "--secret", "s"),
        ("--url", "nonsense", "--secret", "s"),
        ("--config", "/no/such/file"),
    ],
)
def test_nobody_there(words: tuple[str, ...]) -> None:
    """Where it can't send, it says so in a line, with status 1."""
    done = run(*words)
    assert done.stderr.startswith("webhook | not sent: ")
    assert "Traceback" not in done.stderr
    assert done.returncode == 1


def test_a_file_without_turn(tmp_path: Path) -> None:
    """A file that has no Turn application is told."""
    done = run("--config", written(tmp_path / "c.yaml", JUNEBUG)["config"])
    assert "has no turn application" in done.stderr


def test_the_webhook() -> None:
    """The options give the text, the addresses and whether Turn waits for an answer."""
    sent = request("hi", "--to", "+1", "--from", "2", "--waiting")
    assert sent == OutboundRequest(to="+1", from_addr="2", content="hi", session_event="resume")
    assert request("hi", "--to", "+1") == OutboundRequest(to="+1", content="hi")


def test_the_keys_of_turn() -> None:
    """The webhook has every key that Turn sends, also those that are of no use here."""
    body: dict[str, Any] = body_of(arguments([]))
    assert {"block", "resources", "evaluated_resources", "content", "context"} < set(body)


def test_a_menu() -> None:
    """--buttons makes a menu."""
    sent = request("How?", "--buttons", "Well", "Not well")
    assert sent.content == "How?\n1. Well\n2. Not well"
    assert sent.choices[1] == Choice("button_reply", "button-2", "Not well")


def test_the_lines_of_the_page() -> None:
    """Each line that docs/turn.md gives to copy is one that the command understands, and makes a webhook."""
    lines = re.findall(
        r"\.venv/bin/python -m tools\.demo\.webhook(.*)$",
        (ROOT / "docs" / "turn.md").read_text("utf-8"),
        re.MULTILINE,
    )
    assert lines
    for line in lines:
        assert request(*shlex.split(line)).content


@pytest.mark.parametrize("body", [b"", b"{}", "é".encode()])
def test_the_signature(body: bytes) -> None:
    """Its signature is the one that the daemon wants."""
    assert signature("sécret", body).encode() == sign("sécret".encode(), body)
