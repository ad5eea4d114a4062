"""The command that sends a message as RapidPro does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.configurations import JUNEBUG, KANNEL, RAPIDPRO, written
from tools.demo.rapidpro import arguments, main, requests_of
from tools.servers.process import free_port


def test_requests(tmp_path: Path) -> None:
    """The send URL is that of the file, and the words of the command line become RapidPro's values."""
    config = written(tmp_path / "c.yaml", RAPIDPRO)["config"]
    (request,) = requests_of(
        arguments(
            [
                "Well?",
                "--config",
                config,
                "--family",
                "stable",
                "--id",
                "7",
                "--waiting",
                "--quick-replies",
                "A",
            ]
        )
    )
    assert request.url == "http://127.0.0.1:8080/rapidpro/send?id=7&session_status=W"
    assert b"id=7&text=Well%3F&to=%2B27820000003" in request.body
    assert request.body.endswith(b"&quick_reply=A")
    (get,) = requests_of(arguments(["--url", "http://h/send", "--content", "get", "--completed"]))
    assert (get.method, get.body) == ("GET", b"")
    users = {"api_auth": {"users": {"rapidpro": "s3cret"}}}
    config = written(tmp_path / "k.yaml", KANNEL | users)["config"]
    (sendsms,) = requests_of(arguments(["Hi", "--kannel", "--config", config, "--id", "7"]))
    assert sendsms.url.startswith(
        "http://127.0.0.1:8080/kannel/cgi-bin/sendsms?username=rapidpro&password=s3cret&"
    )
    assert "to=%2B27820000004&dlr-url=http%3A%2F%2Frapidpro%2Fc%2Fkn%2F8eb23e93%2Fstatus%3F" in sendsms.url


def test_no_application(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file without a RapidPro application is told, and so is a daemon that isn't there."""
    config = written(tmp_path / "c.yaml", JUNEBUG)["config"]
    assert main(["--config", config]) == 1
    assert "has no rapidpro application" in capsys.readouterr().err
    assert main(["--kannel", "--config", config]) == 1
    assert "has no kannel application" in capsys.readouterr().err
    assert main(["--url", f"http://127.0.0.1:{free_port()}/send"]) == 1
    assert "not sent" in capsys.readouterr().err
