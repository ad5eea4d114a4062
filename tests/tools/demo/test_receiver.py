"""The receiver of the demo, which stands in for RapidPro and Turn."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from tools.demo.receiver import NEWLINE
from tools.servers.process import ROOT


class Running:
    """A receiver in a process of its own."""

    def __init__(self, *flags: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tools.demo.receiver", "--port", "0", *flags],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        first = self.line()
        found = re.search(r"listening on 127\.0\.0\.1:(\d+)", first)
        assert found, first
        self.port = int(found[1])

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def post(self, body: bytes, path: str = "/inbound", **headers: str) -> int:
        """POST ``body``; the status."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                json.loads(answer.read())
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def get(self, path: str) -> tuple[int, str]:
        """GET; the status and the body."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Starts receivers."""
    running: list[Running] = []

    def make(*flags: str) -> Running:
        running.append(Running(*flags))
        return running[-1]

    yield make
    for receiver in running:
        receiver.process.terminate()
        receiver.process.communicate(timeout=10)


def test_records(start: Callable[..., Running]) -> None:
    """With --records a POST is one line, which no other program's output can tear."""
    receiver = start("--records")
    receiver.post(b'{"content": "Hi", "n": 1}')
    first, *rest = receiver.line().split(NEWLINE)
    assert first == "receiver | POST /inbound -> 200"
    assert json.loads("".join(rest)) == {"content": "Hi", "n": 1}


def test_nothing_came_yet(start: Callable[..., Running]) -> None:
    """Before the first message the field of the last one is a word that says what to do, and breaks no JSON."""
    receiver = start()
    status, text = receiver.get("/last/message_id")
    assert status == 404
    assert "phone" in text
    assert json.loads(json.dumps({"reply_to": text})) == json.loads(f'{{"reply_to": "{text}"}}')


def test_it_prints_what_is_posted(start: Callable[..., Running]) -> None:
    """A POST is printed with its path, its kind of authorization and its JSON, and answered 200 with JSON."""
    receiver = start()
    assert receiver.post(b'{"content": "h\\u00e9"}', Authorization="Token secret") == 200
    assert receiver.line() == "receiver | POST /inbound (Token authorization) -> 200"
    assert [receiver.line() for _ in range(3)] == ["{", '  "content": "hé"', "}"]


def test_the_last_inbound_message(start: Callable[..., Running]) -> None:
    """The last inbound message can be asked for, whole or a field; an event is none."""
    receiver = start()
    assert receiver.get("/last")[0] == 404
    receiver.post(b'{"message_id": "1"}')
    receiver.post(b'{"message_id": "2"}')
    receiver.post(b'{"message_id": "3", "event_type": "submitted"}')
    assert receiver.get("/last") == (200, '{"message_id": "2"}')
    assert receiver.get("/last/message_id") == (200, "2")


def test_it_fails_as_often_as_told(start: Callable[..., Running]) -> None:
    """With --fail 2 the first two POSTs get 503, the third 200."""
    receiver = start("--fail", "2")
    assert [receiver.post(b"{}") for _ in range(3)] == [503, 503, 200]


@pytest.mark.parametrize("endpoint", ["messages", "statuses"])
def test_it_plays_turn(start: Callable[..., Running], endpoint: str) -> None:
    """With --turn-token, Turn's endpoints print and answer 200 with that Bearer token, and 401 with any other."""
    receiver = start("--turn-token", "t0ken")
    path = f"/turn/{endpoint}"
    assert receiver.post(b"{}", path, Authorization="Bearer t0ken") == 200
    assert receiver.line() == f"receiver | POST {path} (Bearer authorization) -> 200, 59 of 60 calls left"
    assert receiver.line() == "{}"
    for wrong in ("Bearer t0ken2", "Token t0ken", "Bearer \xe9", ""):
        assert receiver.post(b"{}", path, Authorization=wrong) == 401
    assert receiver.post(b"{}", path) == 401


def test_the_quota_of_turn(start: Callable[..., Running]) -> None:
    """Below /turn what is over the quota gets a 429 with Turn's headers and error body; other paths have no quota."""
    receiver = start("--turn-token", "t0ken", "--turn-calls", "2", "--turn-seconds", "3600")
    path = "/turn/statuses"
    found = [receiver.post(b"{}", path, Authorization="Bearer t0ken") for _ in range(3)]
    assert found == [200, 200, 429]
    lines = [receiver.line() for _ in range(6)][::2]
    said = [
        f"receiver | POST {path} (Bearer authorization) -> {rest}" for rest in ("200, 1", "200, 0", "429, 0")
    ]
    assert lines == [f"{line} of 2 calls left" for line in said]
    assert [receiver.post(b"{}") for _ in range(3)] == [200] * 3


def test_turn_beside_rapidpro(start: Callable[..., Running]) -> None:
    """Other paths need no token, Turn has no further ones, and a message for Turn isn't RapidPro's last one."""
    receiver = start("--turn-token", "t0ken", "--turn-path", "/t/1")
    assert receiver.post(b'{"message_id": "1"}', "/inbound") == 200
    assert receiver.post(b'{"message": {}}', "/t/1/messages", Authorization="Bearer t0ken") == 200
    assert receiver.get("/last/message_id") == (200, "1")
    assert receiver.post(b"{}", "/t/1/other", Authorization="Bearer t0ken") == 404
    assert receiver.post(b"{}", "/turn/messages") == 200


def test_what_is_no_json(start: Callable[..., Running]) -> None:
    """A body that isn't JSON gets 400."""
    assert start().post(b"nonsense") == 400


def test_a_slow_client_delays_nobody(start: Callable[..., Running]) -> None:
    """While one client sends half a request, another is served."""
    receiver = start()
    with socket.create_connection(("127.0.0.1", receiver.port)) as slow:
        slow.sendall(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n{")
        assert receiver.post(b"{}") == 200


def test_a_taken_port(start: Callable[..., Running]) -> None:
    """A port that is taken is told in one line, with a status of 1."""
    port = str(start().port)
    again = subprocess.run(
        [sys.executable, "-m", "tools.demo.receiver", "--port", port],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 1
    assert again.stderr == f"receiver | can't listen on 127.0.0.1:{port}: Address already in use\n"


@pytest.mark.parametrize(
    "module", ["tools.demo.receiver", "tools.demo.phone", "tools.demo.run", "tools.demo.webhook"]
)
def test_help(module: str) -> None:
    """Every program explains itself."""
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f"python -m {module}" in done.stdout
