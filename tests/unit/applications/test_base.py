"""The application interface: the options that all share, and the types that are registered."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from attrs import frozen

from junebug_turn.applications.base import ApplicationOptions
from junebug_turn.applications.registry import APPLICATION_TYPES, type_of
from junebug_turn.http.listening import ListenAddress
from tests.support.application_harness import Face
from tests.support.configurations import JUNEBUG, KANNEL, RAPIDPRO, TURN


@frozen(kw_only=True)
class LetterOptions(ApplicationOptions):
    path_option: ClassVar[str] = "letter_path"
    url_options: ClassVar[tuple[str, ...]] = ("letter_url", "other_url")
    store_option: ClassVar[str] = "letter_store"

    letter_path: str = "/letters"
    letter_url: str = "http://letters/"
    other_url: str | None = None
    letter_store_class: str = "memory"
    letter_store_config: Any = None


OPTIONS = LetterOptions(
    connector_name="c", http_bind=ListenAddress.of("127.0.0.1:8080"), letter_store_config={"timeout": 5}
)


def test_path() -> None:
    """Its path is the value of the option that it names."""
    assert OPTIONS.path == "/letters"


def test_urls() -> None:
    """Its URLs are those of its URL options that have a value."""
    assert OPTIONS.urls == {"letter_url": "http://letters/"}


def test_store() -> None:
    """Its store is described by the two options that begin with the name that it gives."""
    assert (OPTIONS.store_class, OPTIONS.store_config) == ("memory", {"timeout": 5})
    assert not OPTIONS.remember_last


@pytest.mark.parametrize("kind", APPLICATION_TYPES, ids=lambda kind: kind.name)
def test_registered(kind: Any) -> None:
    """Each registered type makes an application, which has all parts of the interface, from its options."""
    face = Face.of(
        kind, {"junebug": JUNEBUG, "turn": TURN, "rapidpro": RAPIDPRO, "kannel": KANNEL}[kind.name]
    )
    for part in ("resource", "answer", "handle_inbound", "handle_event"):
        assert hasattr(face.application, part)
    assert type_of(face.application.options) is kind
