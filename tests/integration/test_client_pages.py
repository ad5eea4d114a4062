"""The commands and programs in the pages for clients, run as printed against `make run`."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from junebug_turn.applications.kannel.messages import inbound_to_form as kannel_form
from junebug_turn.applications.rapidpro.messages import inbound_to_form as rapidpro_form
from junebug_turn.delivery.destination import FORM
from junebug_turn.delivery.signature import Webhook, signing_key
from junebug_turn.messages.vumi import Message
from tests.support.demo import Demo, command_of
from tests.support.pages import blocks
from tools.servers.process import Process, free_port
from tools.servers.rabbitmq import RabbitNode

SECRET = "whsec_anVuZWJ1Zy10dXJuIHRlc3QgdmVjdG9y"
LANGUAGES = [
    pytest.param("python", id="python"),
    pytest.param("js", marks=pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node.js")),
]


def _blocks(page: str, language: str) -> list[str]:
    return [block.text for block in blocks(f"docs/clients-{page}.md") if block.language == language]


def _curls() -> list[str]:
    """The commands of the page for Junebug's clients."""
    return [block for block in _blocks("junebug", "sh") if block.startswith("curl")]


@pytest.fixture(scope="module")
def receiver_port() -> int:
    """The port of the reader's own receiver."""
    return free_port()


@pytest.fixture(scope="module")
def demo(
    tmp_path_factory: pytest.TempPathFactory, rabbitmq: RabbitNode, receiver_port: int
) -> Iterator[Demo]:
    """One for all tests of this file."""
    (entry,) = _blocks("junebug", "yaml")
    # The page has the indentation of the file, and blocks() removes it.
    added = textwrap.indent(entry, "  ").replace("8090", str(receiver_port))
    (start,) = (block for block in _blocks("junebug", "sh") if "make run" in block)
    printed = subprocess.run(
        ["sh", "-ec", start.replace("make run", "env")], capture_output=True, text=True, check=True
    ).stdout
    secrets = dict(re.findall(r"^(\w*WEBHOOK_SECRET)=(.*)$", printed, re.MULTILINE))
    assert set(secrets) == {"WEBHOOK_SECRET", "EVENT_WEBHOOK_SECRET"}
    running = Demo(tmp_path_factory.mktemp("demo"), rabbitmq, added, **secrets)
    yield running
    running.close()


def test_the_commands_for_junebug(demo: Demo) -> None:
    """Each command of the page for Junebug's clients gets a success; a repeat gets the first answer's id."""
    demo.type("junebug", "Hi there")
    demo.run.until('"content": "Hi there"')
    answers = [json.loads(line) for block in _curls() for line in demo.shell(block).splitlines()]
    assert [answer["status"] for answer in answers] == [201, 201, 201, 201, 201, 200]
    first, repeat = answers[2:4]
    assert first == repeat
    assert answers[4]["result"]["reply_to"]
    (status,) = (json.loads(block) for block in _blocks("junebug", "json") if '"message status"' in block)
    assert answers[5] == status
    shown = "".join(demo.shown("junebug", "Hello back!"))
    assert shown.count("Sent once.") == 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_program_that_sends(demo: Demo, language: str) -> None:
    """The program that sends a message prints its id, and the phone shows the text."""
    text = next(block for block in _blocks("junebug", language) if "/messages" in block)
    assert re.fullmatch(r"[0-9a-f]{32}\n", demo.program(language, text))
    demo.shown("junebug", "Hello from")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_program_that_sends_again(tmp_path: Path, language: str) -> None:
    """The program sends the same request again, with the same key, after each answer that the page says to repeat."""
    text = next(block for block in _blocks("junebug", language) if "/messages" in block)
    taken: list[tuple[str | None, bytes]] = []
    statuses = [408, 429, 500, 503, 201]

    class Api(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taken.append((self.headers["Idempotency-Key"], body))
            answer = json.dumps({"result": {"message_id": "sent", "errors": []}}).encode()
            self.send_response(statuses[len(taken) - 1])
            self.send_header("Content-Length", str(len(answer)))
            self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            command = command_of(
                language, text.replace("127.0.0.1:8080", f"127.0.0.1:{server.server_port}"), tmp_path
            )
            assert subprocess.check_output(command, text=True, timeout=60) == "sent\n"
        finally:
            server.shutdown()
    assert len(taken) == len(statuses)
    assert len(set(taken)) == 1


@pytest.mark.parametrize(
    ("outcome", "event"),
    [("failed", "delivery_failed"), ("pending", "delivery_pending"), ("nack", "rejected")],
)
def test_the_outcomes(demo: Demo, outcome: str, event: str) -> None:
    """What is typed at the phone decides which event the message gets."""
    demo.type("junebug", f"/outcome {outcome}")
    demo.shown("junebug", f"The outcome of messages is {outcome}.")
    demo.shell(_curls()[1])
    demo.run.until(f'"event_type": "{event}"')


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_receiver(demo: Demo, language: str) -> None:
    """The receiver takes a signed event once, in whatever case its headers are, and refuses another signature, another
    body and an old request."""
    text = next(block for block in _blocks("junebug", language) if "8090" in block)
    port = free_port()
    assert SECRET in text
    printed: list[str] = []
    command = command_of(language, text.replace("8090", str(port)), demo.folder)
    process = Process("receiver", command, on_line=printed.append)
    try:
        process.wait_until(lambda: _posted(port, b"{}", {}) is not None, "doesn't answer", 60)
        body = b'{"event_type":"submitted"}'
        headers = Webhook("0b6f9d0c", signing_key(SECRET)).headers(time.time(), body)
        assert _posted(port, body, headers) == 200
        assert _posted(port, body, {name.upper(): value for name, value in headers.items()}) == 200
        assert _posted(port, body + b" ", headers) == 401
        assert _posted(port, body, headers | {"webhook-signature": "v1,AAAA v1a,B"}) == 401
        old = Webhook("0b6f9d0c", signing_key(SECRET)).headers(time.time() - 3600, body)
        assert _posted(port, body, old) == 401
        process.wait_until(lambda: "submitted" in "".join(printed), "prints nothing", 60)
        assert "".join(printed).count("submitted") == 1
    finally:
        process.stop()


def test_an_inbound_message(demo: Demo, rabbitmq: RabbitNode, receiver_port: int) -> None:
    """With the page's entry, secrets and phone, its receiver gets the signed inbound messages and events of the channel
    that the reader has added to the demo."""
    receiver = next(block for block in _blocks("junebug", "python") if "8090" in block)
    (phone,) = (block for block in _blocks("junebug", "sh") if "tools.demo.phone" in block)
    printed: list[str] = []
    lines: list[str] = []
    text = receiver.replace("8090", str(receiver_port))
    port = free_port()
    words = shlex.split(phone.replace("8027", str(port)).replace(".venv/bin/python", sys.executable))
    processes = [
        Process("receiver", command_of("python", text, demo.folder), on_line=printed.append),
        Process("phone", [*words, "--amqp-url", rabbitmq.url], on_line=lines.append),
    ]
    try:
        processes[0].wait_until(lambda: _posted(receiver_port, b"{}", {}) is not None, "doesn't answer", 60)
        processes[1].wait_until(lambda: "listening on" in "".join(lines), "doesn't listen", 60)
        with socket.create_connection(("127.0.0.1", port), 60) as terminal:
            terminal.sendall(b"Hello, receiver!\n")
            processes[0].wait_until(lambda: "Hello, receiver!" in "".join(printed), "prints nothing", 60)
        message = {"to": "+27820000001", "from": "8864", "content": "Hello with an event!"}
        message["event_url"] = f"http://127.0.0.1:{receiver_port}/"
        url = f"http://127.0.0.1:{demo.run.http}/channels/mine/messages"
        with urllib.request.urlopen(url, json.dumps(message).encode(), timeout=60) as answer:
            message_id = json.load(answer)["result"]["message_id"]
        processes[0].wait_until(lambda: message_id in "".join(printed), "prints no event", 60)
    finally:
        for process in processes:
            process.stop()


def test_the_process_of_the_broker(rabbitmq: RabbitNode) -> None:
    """The process that the page stops for a while is the broker that `make run` has started."""
    (text,) = (block for block in _blocks("junebug", "sh") if block.startswith("kill -STOP"))
    pids = set()
    for line in text.replace("var/rabbitmq", str(rabbitmq.folder)).splitlines():
        pids.add(subprocess.check_output(["sh", "-ec", re.sub(r"kill -\w+", "echo", line)], text=True))
    (pid,) = pids
    assert b"rabbit" in Path(f"/proc/{int(pid)}/cmdline").read_bytes()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("page", ["rapidpro", "kannel"])
def test_a_receiver_of_forms(demo: Demo, page: str, language: str) -> None:
    """The receiver prints what the daemon POSTs once, with all fields, and a delivery report that is a GET."""
    text = _blocks(page, language)[1]
    port = free_port()
    message = Message(
        to_addr="8864", from_addr="+27820000003", transport_name="t", transport_type="sms", content="Molo ☺"
    )
    form = rapidpro_form(message, message.content, None) if page == "rapidpro" else kannel_form(message)
    printed: list[str] = []
    command = command_of(language, text.replace("8090", str(port)), demo.folder)
    process = Process("receiver", command, on_line=printed.append)
    try:
        first = {"webhook-id": "first"}
        process.wait_until(lambda: _posted(port, b"a=b", first) is not None, "doesn't answer", 60)
        headers = {"Content-Type": FORM, "webhook-id": message.message_id}
        assert [_posted(port, form, headers) for _ in range(2)] == [200, 200]
        if page == "kannel":
            assert _posted(port, None, {"webhook-id": "report"}, "reports?id=12&status=1") == 200
            process.wait_until(lambda: "/reports" in "".join(printed), "prints no report", 60)
        process.wait_until(lambda: "Molo ☺" in "".join(printed), "prints nothing", 60)
        assert "".join(printed).count("Molo ☺") == 1
        assert "+27820000003" in "".join(printed)
    finally:
        process.stop()


def _posted(port: int, body: bytes | None, headers: dict[str, str], path: str = "") -> int | None:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{path}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_vector(demo: Demo, language: str) -> None:
    """The page's verification accepts the page's test vector, whatever the case of the headers' names."""
    receiver = next(block for block in _blocks("junebug", language) if "8090" in block)
    vector = dict(re.split(r": +", line, maxsplit=1) for line in _blocks("junebug", "text")[0].splitlines())
    headers = json.dumps({name.title(): vector[name] for name in vector if name.startswith("webhook-")})
    body, secret = json.dumps(vector["body"]), json.dumps(vector["secret"])
    call = {
        "python": f"print(is_genuine({headers}, {body}.encode(), {secret}, 1795252800))",
        "js": f"console.log(isGenuine({headers}, Buffer.from({body}), {secret}, 1795252800));",
    }[language]
    start = {"python": "if __name__", "js": "if (require.main"}[language]
    assert demo.program(language, receiver.partition(start)[0] + call).strip().lower() == "true"


@pytest.mark.parametrize("language", ["sh", *LANGUAGES])
def test_a_client_of_turn(demo: Demo, language: str) -> None:
    """The command and the programs of the page for Turn's clients send a message to the phone."""
    text = _blocks("turn", language)[-1]
    # A terminal of the reader's: only the page's own line brings the secret.
    secret = f"unset TURN_HMAC_SECRET\n{_blocks('turn', 'sh')[0]}"
    if language == "sh":
        assert list(json.loads(demo.shell(secret + text))) == ["messages"]
    else:
        program, file = command_of(language, demo.at_its_places(text), demo.folder)
        assert re.fullmatch(r"[0-9a-f]{32}\n", demo.shell(f"{secret}{Path(program).name} {file}"))
    demo.shown("turn", "Hello from")


def test_the_command_for_rapidpro(demo: Demo) -> None:
    """The command of the page for RapidPro's clients gets the page's answer, but for the id."""
    (command,), (expected, *_) = _blocks("rapidpro", "sh"), _blocks("rapidpro", "json")
    answer = json.loads(demo.shell(command))
    assert answer | {"message_id": ""} == json.loads(expected) | {"message_id": ""}
    demo.shown("rapidpro", "How are you?")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_client_of_rapidpro(demo: Demo, language: str) -> None:
    """The program of the page for RapidPro's clients sends a message to the phone, and its id comes with the event."""
    text = _blocks("rapidpro", language)[0]
    printed = demo.program(language, text)
    assert re.fullmatch(r"[0-9a-f-]{36}\n", printed)
    demo.shown("rapidpro", "Hello from")
    demo.run.until(rf'POST /c/ex/.*/delivered -> 200.*\n\{{\n +"id": "{printed.strip()}"')


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_client_of_kannel(demo: Demo, language: str) -> None:
    """The program of the page for Kannel's clients sends an SMS, and its report comes to the URL that it gives."""
    text = _blocks("kannel", language)[0]
    printed = demo.program(language, text)
    assert re.fullmatch(r"[0-9a-f-]{36}\n", printed)
    demo.shown("kannel", "Hello from")
    demo.run.until(rf'GET /c/kn/.*-> 200.*\n\{{\n +"id": "{printed.strip()}",\n +"status": "1"\n')


def test_the_commands_for_kannel(demo: Demo) -> None:
    """The commands of the page for Kannel's clients are accepted, and the delivery report comes."""
    accepted = _blocks("kannel", "text")[0]
    for command in _blocks("kannel", "sh"):
        assert demo.shell(command).strip() == accepted.strip()
        demo.shown("kannel", "Hello")
    demo.run.until(r'GET /c/kn/.*-> 200.*\n\{\n +"id": "1",\n +"status": "1"\n')
