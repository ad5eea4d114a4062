"""Options of the Junebug Message API."""

from __future__ import annotations

from typing import Any

import pytest

from junebug_turn.applications.junebug.options import JunebugOptions
from junebug_turn.daemon.settings import load
from tests.support.configurations import FLAGS, faults, only


def options(**given: str) -> JunebugOptions:
    read: Any = only(load({**FLAGS, **given}, {}))
    assert isinstance(read, JunebugOptions)
    return read


def test_places() -> None:
    """Its path, its URLs and its store are those that the document names."""
    read = options(base_url_path="channels/a/", default_event_url="http://e/", state_cache_class="memory")
    assert read.path == "/channels/a"
    assert read.urls == {"mo_message_url": "http://rapidpro/inbound", "default_event_url": "http://e/"}
    assert (read.store_class, read.remember_last) == ("memory", False)


def test_required() -> None:
    """Inbound messages need a URL, which may be null with an amqp_queue."""
    without = {name: FLAGS[name] for name in FLAGS if name != "mo_message_url"}
    (line,) = faults(without)
    assert line.startswith("mo_message_url: required by application junebug without amqp_queue ")
    for flags in (without, without | {"mo_message_url": ""}):
        assert only(load(flags | {"amqp_queue": "q"}, {})).mo_message_url is None
    (line,) = faults(without | {"amqp_queue": ""})
    assert line.startswith("mo_message_url: required ")


@pytest.mark.parametrize("hosts", ["*.example.org", "10.0.0.0/8"])
def test_event_url_allowed_hosts(hosts: str) -> None:
    """The hosts of event URLs can be limited."""
    assert options().event_url_allowed_hosts is None
    assert options(event_url_allowed_hosts=f"['{hosts}']").event_url_allowed_hosts is not None
