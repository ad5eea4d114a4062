"""Putting the daemon together: faults that only the parts can see, and what shares a listener."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock

from junebug_turn.daemon.build import make_daemon
from junebug_turn.daemon.service import Daemon
from junebug_turn.daemon.settings import load
from junebug_turn.errors import BodyTooLarge, ConfigError
from junebug_turn.http.errors import answer_for, envelope

JUNEBUG = {
    "application": "junebug",
    "connector_name": "a",
    "mo_message_url": "http://h/",
    "base_url_path": "/channels/a",
}
TURN = {
    "application": "turn",
    "connector_name": "b",
    "vumi_api_path": "/turn",
    "turn_api_url": "https://turn.example/v1",
    "auth_token": "t",
    "turn_hmac_secret": "s",
    "default_from_addr": "8110",
}


def daemon(*applications: dict[str, Any], **options: Any) -> Daemon:
    flags = {"applications": json.dumps(applications), "http_bind": "127.0.0.1:0", **options}
    return make_daemon(MemoryReactorClock(), load(flags, {}))


def test_both_on_one_port() -> None:
    """Both applications in one daemon share a listener."""
    both = daemon(JUNEBUG, TURN)
    both.privilegedStartService()
    assert len(both.addresses) == 1
    assert set(both.health()["amqp"]["consumers"]) == {"a.inbound", "a.event", "b.inbound", "b.event"}


def test_errors_before_routing() -> None:
    """What is refused before an application is asked is answered in the form of the application whose path it has."""
    (site,) = daemon(JUNEBUG, TURN).sites.values()
    answer = answer_for(BodyTooLarge("x"))
    turn = {"errors": [{"type": "BodyTooLarge", "message": "x"}]}
    for path, told in (
        (b"/turn/messages", (413, turn)),
        (b"/channels/a/messages", envelope(answer)),
        (b"/health", envelope(answer)),
    ):
        assert site.mounts.find(path)[0].answer(answer) == told


def test_spellings_of_one_address() -> None:
    """The same address in two spellings is one listener."""
    both = daemon(
        JUNEBUG | {"http_bind": "127.0.0.1:8080"}, TURN | {"http_bind": "tcp:8080:interface=127.0.0.1"}
    )
    both.privilegedStartService()
    assert len(both.addresses) == 1


def test_faults_of_stores_are_collected() -> None:
    """Faults in the stores' options are reported at once, each naming its key and its application."""
    with pytest.raises(ConfigError) as caught:
        daemon(
            JUNEBUG | {"state_cache_config": {"timeout": -1}},
            TURN | {"message_cache_class": "no.such.Thing"},
        )
    first, second = caught.value.lines
    assert "state_cache_config.timeout" in first
    assert "application a" in first
    assert "message_cache_class" in second
    assert "application b" in second


def test_unusable_url() -> None:
    """A URL that no request could be made to ends the start with a line, without the URL."""
    with pytest.raises(ConfigError, match="no valid name") as caught:
        daemon(JUNEBUG | {"mo_message_url": "http://user:s3cret@a..b/"})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("option", ["admin_bind", "metrics_bind"])
def test_an_address_that_is_taken(option: str) -> None:
    """An address that can't be had ends the start with a line that names its option."""
    made = daemon(JUNEBUG, **{option: "127.0.0.1:8082"})
    listen = made.reactor.listenTCP

    def listen_tcp(port: int, *args: Any, **options: Any) -> Any:
        if port == 8082:
            raise CannotListenError("127.0.0.1", port, OSError(98, "Address already in use"))
        return listen(port, *args, **options)

    made.reactor.listenTCP = listen_tcp
    with pytest.raises(
        SystemExit, match=f"^junebug-turn: {option}: can't listen on .*8082.*: Address already"
    ):
        made.privilegedStartService()
