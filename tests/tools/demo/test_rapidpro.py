"""The command that sends a message as RapidPro does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.configurations import JUNEBUG, RAPIDPRO, written
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


def test_no_application(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file without a RapidPro application is told, and so is a daemon that isn't there."""
    config = written(tmp_path / "c.yaml", JUNEBUG)["config"]
    assert main(["--config", config]) == 1
    assert "has no rapidpro application" in capsys.readouterr().err
    assert main(["--url", f"http://127.0.0.1:{free_port()}/send"]) == 1
    assert "not sent" in capsys.readouterr().err
