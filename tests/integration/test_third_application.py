"""An application of another kind is one package and one line in the registry: here the package is this module.

Nothing of the daemon is changed or patched but the tuple of the registry.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytest_twisted
from attrs import frozen
from twisted.python import usage
from twisted.web.resource import IResource, Resource

from junebug_turn.applications import registry
from junebug_turn.applications.base import ApplicationOptions, ApplicationType, Services
from junebug_turn.applications.forwarding import Forwarder
from junebug_turn.config import types
from junebug_turn.config.option import mapping_option, option
from junebug_turn.daemon.settings import explain
from junebug_turn.daemon.tap import Options
from junebug_turn.delivery.destination import Destination
from junebug_turn.errors import InvalidBody, NotFound
from junebug_turn.http.errors import Answer
from junebug_turn.messages.vumi import Event, Message
from tests.integration.conftest import RunDaemon
from tests.support.configurations import faults, written
from tests.support.daemon import Running
from tools.servers.receiver import Receiver


@frozen(kw_only=True)
class PostcardOptions(ApplicationOptions):
    """Options of the application of this test."""

    path_option: ClassVar[str] = "postcard_path"
    url_options: ClassVar[tuple[str, ...]] = ("postcard_url",)
    store_option: ClassVar[str] = "postcard_store"

    postcard_path: str = option(types.PATH, "The path of the postcards.", "/postcards")
    postcard_url: str = option(types.URL, "Where postcards are POSTed to.", secret=True)
    postcard_stamps: int = option(types.whole(1, 9), "How many stamps a postcard has.", 2)
    postcard_store_class: str = option(types.FILLED, "The class of the store.", "memory")
    postcard_store_config: Mapping[str, Any] = mapping_option("The options of the store.")


class Postcards(Resource):
    """Tells the number of stamps at ``/stamps``."""

    isLeaf = True

    def __init__(self, options: PostcardOptions) -> None:
        super().__init__()
        self._options = options

    def render(self, request: Any) -> bytes:
        if request.postpath != [b"stamps"]:
            raise NotFound("no such postcard")
        if request.content.read() == b"bad":
            raise InvalidBody("no such stamp")
        request.setHeader(b"content-type", b"application/json")
        return json.dumps({"stamps": self._options.postcard_stamps}).encode()


class PostcardApplication:
    """The application of this test: each inbound message and each event is a postcard."""

    def __init__(self, options: PostcardOptions, services: Services) -> None:
        self.resource: IResource = Postcards(options)
        self._destination = Destination.of(options.postcard_url, None)
        self._forwarder = Forwarder(options, services.deliverer)

    def answer(self, answer: Answer) -> tuple[int, Any]:
        return answer.status, {"returned to sender": answer.type}

    def renew(self, options: PostcardOptions) -> None:
        self._forwarder.renew(options)

    async def handle_inbound(self, message: Message) -> None:
        await self._forwarder.inbound(self._destination, message, {"postcard": message.content})

    async def handle_event(self, event: Event) -> None:
        await self._forwarder.event(self._destination, event, {"stamped": event.event_type})


TYPE = ApplicationType(
    "postcard", "the postcards of a test", ("old.Postcards",), PostcardOptions, PostcardApplication
)

POSTCARD = {
    "application": "postcard",
    "connector_name": "cards",
    "http_bind": "127.0.0.1:8080",
    "postcard_url": "http://user:s3cret@cards/",
}


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one line."""
    monkeypatch.setattr(registry, "APPLICATION_TYPES", (*registry.APPLICATION_TYPES, TYPE))


@pytest_twisted.async_yield_fixture
async def postcards(run_daemon: RunDaemon, receiver: Receiver) -> AsyncIterator[Running]:
    async with run_daemon("postcard", postcard_url=receiver.url("/cards"), limits_max_body_size=1000) as side:
        yield side


# options


def test_layers(tmp_path: Path) -> None:
    """Its options come from the file, the environment and flags, each stronger than the one before it."""
    flags = written(tmp_path / "c.yaml", POSTCARD | {"postcard_path": "file", "postcard_stamps": 3})
    environ = {"POSTCARD_STAMPS": "4", "POSTCARD_PATH": "/environment", "POSTCARD_STORE_CONFIG_TIMEOUT": "60"}
    explained = explain(flags | {"postcard_stamps": "5"}, environ)
    assert explained.settings is not None, explained.faults
    (options,) = explained.settings.applications
    assert isinstance(options, PostcardOptions)
    assert (options.postcard_stamps, options.path) == (5, "/environment")
    # As it is written: the store's own option type reads it.
    assert options.store_config == {"timeout": "60"}
    (report,) = explained.applications
    assert (report["postcard_stamps"].shown, report["postcard_stamps"].source) == (
        5,
        "flag --postcard-stamps",
    )
    assert report["postcard_url"].shown == "http://cards/***"
    assert report["application"].shown == "postcard"


def test_faults(tmp_path: Path) -> None:
    """What is wrong with its options is told as for every other one; its class path means it, too."""
    wrong = POSTCARD | {"application": "old.Postcards", "postcard_stamps": 10, "turn_api_url": "http://turn"}
    del wrong["postcard_url"]
    lines = faults(written(tmp_path / "c.yaml", wrong))
    assert [line.partition(" (")[0] for line in lines] == [
        "turn_api_url: unknown option of application postcard",
        "postcard_url: required by application postcard",
        "postcard_stamps: must be a whole number from 1 to 9, got 10",
    ]
    (line,) = faults(POSTCARD | {"application": "letter"})
    assert "kannel, postcard" in line


def test_flags() -> None:
    """Its options are flags of ``twistd junebug-turn``, with their help, and with a file for each secret."""
    options = Options()
    options.parent = usage.Options()
    options.parseOptions(["--postcard-stamps=3", "--postcard-url-file=/secret"])
    assert options.given() == {"postcard_stamps": "3", "postcard_url_file": "/secret"}
    text = " ".join(str(Options()).split())
    assert "How many stamps a postcard has. (whole number, 1 to 9; postcard: default 2)" in text


# the running daemon


@pytest_twisted.ensureDeferred
async def test_mount(postcards: Running) -> None:
    """Its resource answers below its path."""
    answer = await postcards.request("GET", "/postcards/stamps")
    assert (answer.status, answer.body) == (200, {"stamps": 2})


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/postcards/stamps", b"bad", 400, "invalid_body"),
        ("/postcards/elsewhere", b"", 404, "NotFound"),
        ("/postcards/stamps", b"x" * 1001, 413, "BodyTooLarge"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_errors(postcards: Running, path: str, body: bytes, status: int, error: str) -> None:
    """Its errors have its own form, also those that come before its resource is asked."""
    answer = await postcards.request("POST", path, body)
    assert (answer.status, answer.body) == (status, {"returned to sender": error})


@pytest_twisted.ensureDeferred
async def test_elsewhere(postcards: Running) -> None:
    """Outside of its path errors have the form of the daemon, and /health knows its queues."""
    answer = await postcards.request("GET", "/elsewhere")
    assert (answer.status, answer.body["result"]["errors"][0]["type"]) == (404, "NotFound")
    health = await postcards.request("GET", "/health")
    assert f"{postcards.connector}.inbound" in str(health.body)


@pytest_twisted.ensureDeferred
async def test_inbound_and_event(postcards: Running) -> None:
    """It gets the inbound messages and the events of its connector."""
    message = Message(
        to_addr="8110", from_addr="+26612345678", transport_name="t", transport_type="sms", content="hello"
    )
    postcards.publish("inbound", message)
    postcards.publish("event", Event(user_message_id="m", event_type="ack", sent_message_id="s"))
    received = await postcards.receiver.received(2)
    assert sorted((request.path, str(request.json)) for request in received) == [
        ("/cards", "{'postcard': 'hello'}"),
        ("/cards", "{'stamped': 'ack'}"),
    ]
