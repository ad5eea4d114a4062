"""The kinds of value of the options that guard the daemon: see ``kinds`` for what a kind is."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from attrs import Factory, field, frozen

from junebug_turn.config.types import FILLED, Kind
from junebug_turn.net.addresses import HostRules


@frozen
class Credentials:
    """Who may use an API: ``tokens``, and the password of each of ``users``."""

    tokens: tuple[str, ...] = field(default=(), repr=False)
    users: Mapping[str, str] = field(default=Factory(dict), repr=False)


def _credentials(value: Any) -> Credentials:
    if not isinstance(value, dict) or not value or set(value) - {"tokens", "users"}:
        raise ValueError("must be a mapping with tokens, users or both")
    tokens = [] if value.get("tokens") is None else value["tokens"]
    users = {} if value.get("users") is None else value["users"]
    if not isinstance(tokens, list) or not isinstance(users, dict):
        raise ValueError("must have a list as tokens and a mapping of names to passwords as users")
    if not tokens and not users:
        raise ValueError("must have at least one token or user: nobody could use the API")
    try:
        texts = [FILLED.read(text) for text in (*tokens, *users, *users.values())]
    except ValueError as error:
        raise ValueError(f"{error} (each token, user name and password)") from None
    if any(text != text.strip() for text in texts):
        raise ValueError("must not have tokens, names or passwords that begin or end with a space")
    if any(":" in name for name in users):
        raise ValueError("must not have a colon in a user name, which Basic authentication can't carry")
    return Credentials(tuple(tokens), dict(users))


def _host_rules(value: Any) -> HostRules:
    if not isinstance(value, list) or not all(isinstance(rule, str) for rule in value):
        raise ValueError('must be a list of host names, wildcards such as "*.example.org", and networks')
    return HostRules.of(value)


def number(high: float) -> Kind:
    """A number above 0 and up to ``high``."""

    def read(value: Any) -> float:
        wrong = f"must be a number above 0 and at most {high:g}"
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= high:
            raise ValueError(wrong)
        if not isfinite(value):
            raise ValueError(wrong)
        return float(value)

    return Kind(f"number, above 0 to {high:g}", read, from_yaml=True)


def _middlewares(value: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ValueError("must be a list of mappings, one for each middleware")
    for place, entry in enumerate(value):
        if not all(isinstance(key, str) for key in entry):
            raise ValueError(f"must have texts as keys in entry {place}")
        if not isinstance(entry.get("class_path"), str) or not entry["class_path"]:
            raise ValueError(f"must have a class_path, a text, in entry {place}")
    return tuple(dict(entry) for entry in value)


CREDENTIALS = Kind("mapping", _credentials, from_yaml=True)
HOST_RULES = Kind("list of texts", _host_rules, from_yaml=True)
MIDDLEWARES = Kind("list of mappings", _middlewares, from_yaml=True)
