"""Rendering of media, locations, contacts and the like as a text, for phones that show nothing else.

The forms are WhatsApp's messages, which Turn passes on: ``{"type": "image", "image": {"link", "caption"}}``.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

MEDIA = frozenset({"image", "video", "audio", "document", "sticker"})
MAX_LINK = 2000
MAX_CONTACTS = 10


def render(kind: str, value: Any) -> tuple[str, bool]:
    """Return the text of a message's part ``value`` of this type, empty where it has none; and whether the text is all
    of it: a caption alone is not.
    """
    if not isinstance(value, dict):
        # Contacts are a list.
        value = {"contacts": value}
    if kind in MEDIA:
        link = link_of(value.get("link"))
        named = _text(value.get("caption")) or (_text(value.get("filename")) if link else "")
        return _lines(named, link), bool(link)
    if kind == "location":
        place = ", ".join(
            str(value.get(key)) for key in ("latitude", "longitude") if _is_number(value.get(key))
        )
        return _lines(
            _text(value.get("name")), _text(value.get("address")), place, link_of(value.get("url"))
        ), True
    if kind == "contacts":
        return _lines(*[_contact(each) for each in _objects(value.get("contacts"))[:MAX_CONTACTS]]), True
    if kind == "interactive":
        # One without choices, such as a link's button, or with too many.
        action = _object(value.get("action"))
        texts = [_text(_object(value.get(part)).get("text")) for part in ("header", "body", "footer")]
        return _lines(*texts, link_of(_object(action.get("parameters")).get("url"))), False
    if kind == "template":
        # Its own words are with WhatsApp: what stands in the message is what is put into them.
        parts = sorted(_objects(value.get("components")), key=lambda part: part.get("type") != "header")
        shown = [part for part in parts if part.get("type") in ("header", "body")]
        return _lines(
            *[_parameter(each) for part in shown for each in _objects(part.get("parameters"))]
        ), False
    return "", False


def _parameter(value: dict[str, Any]) -> str:
    kind = _text(value.get("type"))
    part = value.get(kind)
    if kind == "text":
        return _text(part)
    part = _object(part)
    # Amounts and dates have their text beside them.
    return link_of(part.get("link")) if kind in MEDIA else _text(part.get("fallback_value"))


def _contact(value: dict[str, Any]) -> str:
    name = _text(_object(value.get("name")).get("formatted_name"))
    phones = [_text(phone.get("phone")) for phone in _objects(value.get("phones"))]
    return " ".join(text for text in (name, *phones) if text)


def link_of(value: Any) -> str:
    """Return ``value`` if it is a link that a text can have, else an empty text."""
    link = _text(value)
    try:
        parts = urlsplit(link)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        usable = False
    return link if usable and len(link) <= MAX_LINK and link.isprintable() and " " not in link else ""


def _lines(*texts: str) -> str:
    return "\n".join(text for text in texts if text)


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
