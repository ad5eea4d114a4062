"""Value type of options that list hosts."""

from __future__ import annotations

from typing import Any

from junebug_turn.config.types import ValueType
from junebug_turn.net.addresses import HostRules


def _host_rules(value: Any) -> HostRules:
    if not isinstance(value, list) or not all(isinstance(rule, str) for rule in value):
        raise ValueError('must be a list of host names, wildcards such as "*.example.org", and networks')
    return HostRules.of(value)


HOST_RULES = ValueType("list of texts", _host_rules, from_yaml=True)
