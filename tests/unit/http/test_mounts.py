"""The mounts of a server: which resource a path has, and which paths have none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.web.resource import Resource

from junebug_turn.http.mounts import Mount, Mounts
from tests.support.http_harness import Client, Response, make_site


class Named(Resource):
    """Answers with its name and the path below its mount."""

    isLeaf = True

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def render(self, request: Any) -> bytes:
        body = json.dumps([self.name, b"/".join(request.postpath).decode()]).encode()
        request.setHeader("content-type", "application/json")
        request.setHeader("content-length", str(len(body)))
        return body


def answer(path: str, *mounts: str) -> Response:
    client = Client(make_site({mount: Mount(Named(mount)) for mount in mounts}, Clock()))
    client.request("POST", path)
    return client.response()


@pytest.mark.parametrize(
    ("path", "mount", "rest"),
    [
        ("/channels/demo/messages", "/channels/demo", "messages"),
        ("/channels/demo/messages/?q=/top", "/channels/demo", "messages/"),
        ("/channels/demo/m%65ss", "/channels/demo", "m%65ss"),
        ("/channels/demo2/messages", "/channels", "demo2/messages"),
        ("/channels/d%c3%a9mo/x", "/channels/démo", "x"),
        ("/channels/d%C3%A9mo/x", "/channels/démo", "x"),
        ("/channels/a%20b/x", "/channels/a b", "x"),
        ("/channels/a:b@c/x", "/channels/a:b@c", "x"),
        ("/top", "/top", ""),
    ],
)
def test_longest_prefix(path: str, mount: str, rest: str) -> None:
    """A request goes to the resource that is mounted at the longest prefix of its path."""
    mounts = ("/channels/demo", "/channels", "/channels/démo", "/channels/a b", "/channels/a:b@c", "/top")
    assert answer(path, *mounts).body == [mount, rest]


@pytest.mark.parametrize(
    "path",
    [
        "/%74op",
        "/t%6Fp",
        "/%2Ftop",
        "//top",
        "/./top",
        "/x/../top",
        "/top%2Fx",
        "/top%00",
        "/top%20",
        "/TOP",
        "/channels%2Fdemo",
        "/channels//demo",
        "/channels/./demo",
        "/channels/%64emo",
        "/channels/demo;x",
    ],
)
def test_another_spelling(path: str) -> None:
    """A path is matched as it is written: another spelling of it, which a proxy's rules would not find, is none."""
    assert answer(path, "/channels/demo", "/top").status == 404


def test_mount_of_all_paths() -> None:
    """A mount at the empty path has all paths that no longer one has."""
    for path in ("/", "/messages", "/topmost"):
        assert answer(path, "/top", "").body == ["", path[1:]]


@pytest.mark.parametrize(
    ("path", "description", "message"),
    [
        ("/", "not found", "there is nothing at /"),
        ("/nothing", "not found", "there is nothing at /nothing"),
        ("/channels", "not found", "there is nothing at /channels"),
        ("/channels/other/messages", "channel not found", "there is no channel other here"),
        ("/channels/demo2/messages", "channel not found", "there is no channel demo2 here"),
        ("/channels/", "not found", "there is nothing at /channels/"),
        ("/channels//messages", "not found", "there is nothing at /channels//messages"),
        ("/%ff%fe", "not found", "the path is not UTF-8"),
        ("/channels/%ff/messages", "not found", "the path is not UTF-8"),
        ("/channels/demo/%ff", "not found", "the path is not UTF-8"),
        ("//channels/demo/messages", "not found", "there is nothing at //channels/demo/messages"),
    ],
)
def test_unknown_paths(path: str, description: str, message: str) -> None:
    """A channel that isn't configured and any other unknown path is a 404 in the envelope, never HTML."""
    response = answer(path, "/channels/demo", "/top")
    assert (response.status, response.body["description"]) == (404, description)
    assert response.body["result"]["errors"][0]["message"] == message


def test_connector_of_unknown_paths() -> None:
    """Requests to paths without a mount are counted under no connector."""
    mounts = Mounts({"/top": Mount(Named("top"), "sms")})
    assert mounts.find(b"/top/x")[0].connector == "sms"
    assert mounts.find(b"/x")[0].connector == ""


def test_mounts_that_come_and_go() -> None:
    """A resource that is mounted later is found from then on, also below another one, until it is removed."""
    mounts = Mounts({"/channels": Mount(Named("api"))})
    assert mounts.find(b"/channels/c1/messages")[1] == [b"c1", b"messages"]
    mounts.add("/channels/c1/messages", Mount(Named("c1"), "c1"))
    assert mounts.find(b"/channels/c1/messages/m1") == (mounts.find(b"/channels/c1/messages")[0], [b"m1"])
    assert mounts.find(b"/channels/c1/messages")[0].connector == "c1"
    mounts.remove("/channels/c1/messages")
    assert mounts.find(b"/channels/c1/messages")[1] == [b"c1", b"messages"]
