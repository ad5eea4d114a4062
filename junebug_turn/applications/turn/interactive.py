"""Rendering of buttons and lists as a numbered text, for phones that have neither.

The form is WhatsApp's interactive message, which Turn passes on: ``{"type": "button", "header", "body", "footer",
"action": {"buttons": [{"reply": {"id", "title"}}]}}`` or ``{"type": "list", ..., "action": {"sections": [{"title",
"rows": [{"id", "title", "description"}]}]}}``.
"""

from __future__ import annotations

from typing import Any

from junebug_turn.applications.turn.menus import Choice

# More choices than WhatsApp allows (10), and few enough for a menu that someone reads.
MAX_CHOICES = 99


def render(interactive: Any) -> tuple[str, tuple[Choice, ...]] | None:
    """Return the text of an interactive message, and the choices that its numbered lines are.

    None where it has no text, no choices, or too many of them.
    """
    if not isinstance(interactive, dict):
        return None
    action = interactive.get("action")
    choices = _choices(action) if isinstance(action, dict) else []
    body = _text(interactive, "body")
    if not body or not choices or len(choices) > MAX_CHOICES:
        return None
    parts = [_text(interactive, "header"), body]
    parts += [f"{number}. {choice.title}" for number, choice in enumerate(choices, 1)]
    parts.append(_text(interactive, "footer"))
    return "\n".join(part for part in parts if part), tuple(choices)


def _text(interactive: dict[str, Any], part: str) -> str:
    value = interactive.get(part)
    text = value.get("text") if isinstance(value, dict) else None
    return text.strip() if isinstance(text, str) else ""


def _choices(action: dict[str, Any]) -> list[Choice]:
    found = [_choice("button_reply", button.get("reply")) for button in _objects(action.get("buttons"))]
    for section in _objects(action.get("sections")):
        found += [_choice("list_reply", row) for row in _objects(section.get("rows"))]
    return [choice for choice in found if choice is not None]


def _choice(kind: str, value: Any) -> Choice | None:
    if not isinstance(value, dict):
        return None
    id, title = value.get("id"), value.get("title")
    if not isinstance(id, str) or not isinstance(title, str) or not title.strip():
        return None
    return Choice(kind, id, title)


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
