"""A daemon in a process of its own, and a client that doesn't play by the rules."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import yaml

from junebug_turn.applications.turn.signature import HEADER, sign
from junebug_turn.daemon.settings import explain
from tests.support.leaks import LEAKS
from tests.support.silent_broker import SilentBroker
from tools.servers.process import free_port
from tools.servers.rabbitmq import RabbitNode

ROOT = Path(__file__).resolve().parents[2]
NAMES = Path(__file__).with_name("site")
"""The folder of the module with which the daemon looks up the names of the test."""

HMAC = "the-hmac-secret-of-turn"
JUNEBUG, TURN = "/jb/messages", "/turn/messages"


class HostileDaemon:
    """``twistd junebug-turn`` with both applications on one address.

    :param node: the broker; of it only the URL counts
    :param api_auth: the credentials of the Junebug Message API
    :param descriptors: the limit of open files, soft and hard
    :param limits: other limits than the defaults
    """

    def __init__(
        self,
        node: RabbitNode | SilentBroker,
        folder: Path,
        name: str,
        url: str,
        *,
        api_auth: dict[str, Any] | None = None,
        descriptors: int | None = None,
        **limits: Any,
    ) -> None:
        self.port = free_port()
        self.name = name
        self._folder = folder
        configuration = {
            "amqp_url": node.url,
            "http_bind": f"127.0.0.1:{self.port}",
            "shutdown_timeout": 1,
            "limits": limits,
            "log_level": "DEBUG",
            "applications": [
                {
                    "application": "junebug",
                    "connector_name": name,
                    "base_url_path": "/jb",
                    "mo_message_url": f"{url}inbound",
                    "mo_message_url_auth_token": "the-token-for-mo-message-url",
                    "default_event_url": f"{url}events",
                    "default_from_addr": "8110",
                    "api_auth": api_auth,
                },
                {
                    "application": "turn",
                    "connector_name": f"{name}-turn",
                    "vumi_api_path": "/turn",
                    "turn_api_url": f"{url}turn",
                    "auth_token": "the-token-for-turn",
                    "turn_hmac_secret": HMAC,
                    "default_from_addr": "8110",
                },
            ],
        }
        file = folder / "hostile.yaml"
        file.write_text(yaml.safe_dump(configuration))
        LEAKS.secrets_of(explain({"config": str(file)}, {}))
        self._log_file = folder / "hostile.log"
        twistd = str(Path(sys.executable).with_name("twistd"))
        self._command = [sys.executable, twistd, "-n", "--pidfile=", "junebug-turn", "--config", str(file)]
        if descriptors is not None:
            shell = 'ulimit -n "$0" && exec "$@"'
            self._command = ["/bin/sh", "-c", shell, str(descriptors), *self._command]

    def __enter__(self) -> Self:
        with open(self._log_file, "wb") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (NAMES, ROOT)))},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        end = time.monotonic() + 30
        while not self._well():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < end, self.log
            time.sleep(0.1)
        return self

    def __exit__(self, *exc_info: object) -> None:
        still_running = self._process.poll() is None
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        LEAKS.search("the log of a hostile run", self.log)
        assert still_running, self.log
        assert "Traceback" not in self.log, self.log[-5000:]

    def _well(self) -> bool:
        try:
            return self.health()
        except OSError:
            return False

    def health(self) -> bool:
        """Whether the daemon answers that it is well, on a connection of its own."""
        with self.client() as client:
            return client.health()

    @property
    def log(self) -> str:
        return self._log_file.read_text("utf-8", "replace")

    @property
    def peak(self) -> int:
        """The most memory that the daemon has had since its peak was forgotten, in bytes."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmHWM")

    def forget_peak(self) -> None:
        """Have the peak begin with the memory that the daemon has now."""
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")

    @property
    def descriptors(self) -> int:
        """The open files and sockets of the daemon."""
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))

    @property
    def cpu(self) -> float:
        """The processor's time that the daemon has used, in seconds."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def client(self, timeout: float = 20) -> Client:
        return Client(self.port, timeout)


class Client:
    """A socket that speaks as much HTTP as a test wants."""

    def __init__(self, port: int, timeout: float) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def post(self, path: str, body: bytes, *headers: bytes, signed: bool = True) -> tuple[int, Any]:
        """POST a body, for Turn with its signature; status and JSON of the answer."""
        if path == TURN and signed:
            headers += (HEADER.encode() + b": " + sign(HMAC.encode(), body),)
        head = b"POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n" % (path.encode(), len(body))
        self.send(head + b"".join(header + b"\r\n" for header in headers) + b"\r\n" + body)
        return self.answer()

    def health(self) -> bool:
        """Whether the daemon answers on this connection that it is well."""
        self.send(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n")
        return self.answer()[0] == 200

    def answer(self) -> tuple[int, Any]:
        """The next answer, which must be JSON with its length."""
        while b"\r\n\r\n" not in self._buffer:
            self._receive()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("ascii").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        assert headers["content-type"] == "application/json", head
        length = int(headers["content-length"])
        while len(self._buffer) < length:
            self._receive()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        LEAKS.search("an answer of a hostile run", f"{head!r} {body!r}")
        return int(first.split(" ")[1]), json.loads(body)

    def _receive(self) -> None:
        chunk = self.socket.recv(65536)
        assert chunk, f"the connection ended after {self._buffer!r}"
        self._buffer += chunk

    def ended(self) -> bool:
        """Whether the daemon has closed the connection, or does so before the client's timeout."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionError:
            pass
        except TimeoutError:
            return False
        return True


class Bodies:
    """Makes bodies up: valid ones, valid ones with something wrong in them, and rubbish."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def one(self) -> bytes:
        pick = self._random
        kind = pick.random()
        if kind < 0.1:
            return pick.randbytes(pick.randrange(200))
        value = self._junebug() if pick.random() < 0.5 else self._turn()
        if kind < 0.7:
            value = self._spoiled(value)
        body = json.dumps(value, ensure_ascii=pick.random() < 0.5).encode("utf-8", "surrogatepass")
        if kind > 0.85:
            at = pick.randrange(len(body) + 1)
            body = (
                body[:at]
                + pick.choice((b"", b"\x00", b"\xff", b"\r\n", b"}", b"[", b'"', b"\\u"))
                + body[at + 1 :]
            )
        return body

    def _junebug(self) -> dict[str, Any]:
        pick = self._random
        fields = {
            "to": "+27123",
            "from": "8110",
            "content": "héllo",
            "reply_to": "no-such-id",
            "group": "g",
            "event_url": "http://127.0.0.1:9/e",
            "event_auth_token": "t",
            "priority": 1,
            "channel_data": {"session_event": "resume", "continue_session": True, "x": {}},
        }
        return {name: value for name, value in fields.items() if pick.random() < 0.6}

    def _turn(self) -> dict[str, Any]:
        pick = self._random
        turn = pick.choice(
            (
                {"type": "text", "text": {"body": "hello"}},
                {
                    "type": "interactive",
                    "interactive": {
                        "type": "button",
                        "body": {"text": "b"},
                        "action": {"buttons": [{"type": "reply", "reply": {"id": "1", "title": "t"}}]},
                    },
                },
                {
                    "type": "interactive",
                    "interactive": {
                        "type": "list",
                        "body": {"text": "b"},
                        "action": {
                            "button": "b",
                            "sections": [{"title": "s", "rows": [{"id": "1", "title": "t"}]}],
                        },
                    },
                },
                {"type": "image", "image": {"link": "x"}},
            )
        )
        fields = {
            "to": "+27123",
            "from": "8110",
            "turn": turn,
            "content": "c",
            "waiting_for_user_input": True,
        }
        return {name: value for name, value in fields.items() if pick.random() < 0.85}

    def _spoiled(self, value: Any) -> Any:
        """``value`` with something in it, anywhere, replaced by something strange."""
        pick = self._random
        if isinstance(value, dict) and value and pick.random() < 0.85:
            key = pick.choice(list(value))
            return {**value, key: self._spoiled(value[key])}
        if isinstance(value, list) and value and pick.random() < 0.85:
            return [self._spoiled(value[0]), *value[1:]]
        strange: tuple[Any, ...] = (
            None,
            True,
            0,
            -1,
            10**400,
            1e308,
            float("nan"),
            "",
            "\x00\r\n",
            "\ud800",
            "x" * 5000,
            [],
            {},
            [[[[[[]]]]]],
            {"": {"\ud800": "\r\nX: y"}},
            "http://169.254.169.254/",
            "file:///etc/passwd",
            ["a"] * 300,
        )
        return pick.choice(strange)
