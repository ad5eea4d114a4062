"""The search for secrets finds what it must find: it guards all other tests."""

from __future__ import annotations

from twisted.logger import Logger
from twisted.python.failure import Failure

from junebug_turn.daemon.settings import explain
from tests.support.configurations import JUNEBUG
from tests.support.leaks import Leaks


def leaks() -> Leaks:
    """A search of its own, which knows the secrets of a configuration."""
    flags = JUNEBUG | {
        "mo_message_url": "http://user:p%40ss-of-the-url@rapidpro/",
        "mo_message_url_auth_token": "token-of-the-url",
        "api_auth": "{tokens: [token-of-the-api], users: {name: password-of-the-api}}",
        "amqp_password": "password-of-the-broker",
        "state_cache_config": "{url: 'redis://:password-of-the-cache@redis'}",
    }
    made = Leaks()
    made.secrets_of(explain(flags, {}))
    return made


def test_secrets_of_a_configuration() -> None:
    """Tokens, passwords, those in URLs (as written and decoded) and those in mappings are found wherever they stand."""
    for secret in (
        "p%40ss-of-the-url",
        "p@ss-of-the-url",
        "token-of-the-url",
        "token-of-the-api",
        "password-of-the-api",
        "password-of-the-broker",
        "password-of-the-cache",
    ):
        search = leaks()
        search.search("a text", f"before {secret} after")
        assert len(search.found) == 1, secret
    search = leaks()
    search.search("a text", "http://user@rapidpro/ name sms")
    assert not search.found


def test_log_lines() -> None:
    """A secret in a log line's fields, or in the traceback of a failure, is found."""
    search = leaks()

    log = Logger(observer=search.observe)
    log.info("a line about {url}", url="http://x/?t=token-of-the-url")
    assert len(search.found) == 1
    try:
        raise ValueError("password-of-the-broker is wrong")
    except ValueError:
        log.failure("a fault", Failure())
    assert len(search.found) == 2
