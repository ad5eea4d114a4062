"""Syntax of request lines and Host headers."""

from __future__ import annotations

import pytest

from junebug_turn.http.syntax import has_long_name, is_host, is_request_line


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/channels/demo/messages?q=/x?y",
        "//x",
        "/%c3%a9",
        '/a:@!$&()*+,;=~"<>[]{}|^`',
        "http://h",
        "http://h?q",
        "HTTPS://u:p@[::1]:80/x",
    ],
)
def test_targets(target: str) -> None:
    """A target is a path or a whole URL, as RFC 9112 section 3.2 has it."""
    assert is_request_line(f"POST {target} HTTP/1.1".encode())
    assert is_request_line(f"m!#- {target} HTTP/1.0".encode())


@pytest.mark.parametrize(
    "line",
    [
        "",
        "GET",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / http/1.1",
        "GET metrics HTTP/1.1",
        "GET xmetrics HTTP/1.1",
        "GET *health HTTP/1.1",
        "GET * HTTP/1.1",
        "GET ?q HTTP/1.1",
        "GET h:80 HTTP/1.1",
        "CONNECT h:80 HTTP/1.1",
        "GET ftp://h/ HTTP/1.1",
        "GET http:///x HTTP/1.1",
        "GET http://?q HTTP/1.1",
        "GET http:/x HTTP/1.1",
        "GET /x#y HTTP/1.1",
        "GET /é HTTP/1.1",
        "GET /\x7f HTTP/1.1",
        "G(T / HTTP/1.1",
        "OPTIONS *x HTTP/1.1",
    ],
)
def test_other_lines(line: str) -> None:
    """Whatever else stands in the first line is none of a request."""
    assert not is_request_line(line.encode())


def test_asterisk() -> None:
    """``*`` is the target of OPTIONS alone."""
    assert is_request_line(b"OPTIONS * HTTP/1.1")


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"h",
        b"h:",
        b"h:80",
        b"a_b.example.org",
        b"192.0.2.1:80",
        b"[::1]:80",
        b"[fe80::1%25eth0]",
        b"%41",
    ],
)
def test_hosts(host: bytes) -> None:
    """A Host is a name or an address, with or without a port; it may be empty, but must be there, and be one."""
    assert is_host([host], required=True)
    assert not is_host([host, host], required=False)


@pytest.mark.parametrize(
    "host", [b"a b", b"a/b", b"a@b", b"h:x", b"::1", b"[::1", b"[]", b"a\x00", b"\xc3\xa9", b"a,b c"]
)
def test_wrong_hosts(host: bytes) -> None:
    """Another text is no Host."""
    assert not is_host([host], required=True)


def test_no_host() -> None:
    """Only HTTP/1.0 may leave it out."""
    assert is_host([], required=False)
    assert not is_host([], required=True)


def test_long_names() -> None:
    """A header's name has 256 bytes at most, also in a line that has no colon; a continued line has no name."""
    assert not has_long_name(b"x" * 256 + b": y")
    assert has_long_name(b"x" * 257 + b": y")
    assert has_long_name(b"x" * 257)
    assert not has_long_name(b" " + b"x" * 300)
