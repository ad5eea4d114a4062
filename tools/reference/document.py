"""The OpenAPI document in docs/, of a daemon with every API.

Tested by tests/project/test_reference.py.
"""

from __future__ import annotations

import json

from junebug_turn.daemon.openapi import daemon_document
from junebug_turn.daemon.settings import load

_OPTIONS = {
    "http_bind": "127.0.0.1:8080",
    "default_from_addr": "8110",
    "api_auth": {"tokens": ["example-only"]},
}
_APPLICATIONS = (
    {
        "application": "junebug",
        "connector_name": "junebug",
        "base_url_path": "/junebug",
        "mo_message_url": "http://127.0.0.1:8081/",
    },
    {
        "application": "turn",
        "connector_name": "turn",
        "vumi_api_path": "/turn",
        "auth_token": "example-only",
        "turn_hmac_secret": "example-only",
    },
    {
        "application": "rapidpro",
        "connector_name": "rapidpro",
        "base_url_path": "/rapidpro",
        "rapidpro_url": "http://127.0.0.1:8081/",
    },
    {
        "application": "kannel",
        "connector_name": "kannel",
        "base_url_path": "/kannel",
        "receive_url": "http://127.0.0.1:8081/",
    },
)


def updated(text: str) -> str:
    """Return the document as the code has it now."""
    options = {
        "applications": json.dumps([{**each, **_OPTIONS} for each in _APPLICATIONS]),
        "channels_store": "sqlite",
        "channels_path": "/example-only",
        "channels_http_bind": "127.0.0.1:8080",
        "channels_api_auth": json.dumps(_OPTIONS["api_auth"]),
        "admin_bind": "127.0.0.1:8079",
        "admin_auth": json.dumps(_OPTIONS["api_auth"]),
    }
    return json.dumps(daemon_document(load(options, {})), indent=1, ensure_ascii=False) + "\n"
