"""Health of the daemon, of components whose states a test sets."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from junebug_turn.daemon.health import health


class Component:
    """Stands in for a broker, a deliverer or a store: has the state that it is given."""

    def __init__(self, state: Any) -> None:
        self.status = self.degraded = lambda: state
        self.stopping = False
        self.waiting_for_turn = dict
        self.connected = isinstance(state, dict) and state.get("connected")


def composed(
    broker: dict[str, Any], *, down: Any = MappingProxyType({}), store: bool = True
) -> dict[str, dict[str, Any]]:
    state = {"connected": True, "publishing": True, "blocked": False, "consumers": {"a.inbound": True}}
    parts: Any = (Component(state | broker), Component(down), {"a": Component({"ok": store})})
    return health(*parts, ["http://h"])


@pytest.mark.parametrize(
    ("broker", "ok"),
    [
        ({}, True),
        ({"blocked": True}, True),
        ({"connected": False}, False),
        ({"publishing": False}, False),
        ({"consumers": {"a.inbound": True, "a.event": False}}, False),
        ({"faults": ["the queue a.inbound can't be declared: access refused"]}, False),
    ],
)
def test_amqp(broker: dict[str, Any], ok: bool) -> None:
    """amqp is ok when it is connected, can publish, has all its consumers and the broker gives what is needed; what it
    doesn't give is shown."""
    found = composed(broker)["amqp"]
    assert found["ok"] is ok
    assert found | broker == found
    # vumi2's body has these two.
    assert found["health"] == ("ok" if ok else "down")
    assert found["state"] == ("connecting" if broker.get("connected") is False else "open")


def test_stopping() -> None:
    """While the daemon stops, amqp's state is closing."""
    state = {"connected": True, "publishing": True, "blocked": False, "consumers": {}}
    broker: Any = Component(state)
    broker.stopping = True
    deliverer: Any = Component({})
    assert health(broker, deliverer, {}, ())["amqp"]["state"] == "closing"


def test_degraded() -> None:
    """A destination or a store that is down is shown as degraded, and leaves its component ok."""
    well = composed({})
    assert [well[name]["state"] for name in ("destinations", "cache")] == ["ok", "ok"]
    found = composed({}, down={"http://h": {"state": "down"}}, store=False)
    assert found["destinations"] == {
        "ok": True,
        "state": "degraded",
        "origins": {"http://h": {"state": "down"}},
        "others": 0,
        "waiting": {},
    }
    assert found["cache"] == {"ok": True, "state": "degraded", "connectors": {"a": {"ok": False}}}


def test_destinations_of_clients() -> None:
    """Of the destinations that clients gave only the number is shown: who asks may be anybody."""
    found = composed({}, down={"http://h": {"state": "down"}, "http://a.secret": {}, "http://b.secret": {}})
    assert found["destinations"]["origins"] == {"http://h": {"state": "down"}}
    assert found["destinations"]["others"] == 2
    assert found["destinations"]["state"] == "degraded"
    assert "secret" not in str(found)


@pytest.mark.parametrize("ok", [True, False])
def test_channels(ok: bool) -> None:
    """The channels that are made at run time are a component where there can be some."""
    parts: Any = (Component({"connected": True, "publishing": True, "consumers": {}}), Component({}), {}, ())
    assert "channels" not in health(*parts)
    assert health(*parts, lambda: {"ok": ok})["channels"] == {"ok": ok}
