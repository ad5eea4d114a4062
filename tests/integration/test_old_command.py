"""The command line and the configuration file of vumi2's worker, with the real daemon as a process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_old_command(tmp_path: Path) -> None:
    """vumi2's command line with its configuration file starts the daemon: it listens, and an unknown
    key is a warning with its place."""
    with socket.create_server(("127.0.0.1", 0)) as http, socket.create_server(("127.0.0.1", 0)) as amqp:
        port, no_broker = http.getsockname()[1], amqp.getsockname()[1]
    file = tmp_path / "worker.yaml"
    file.write_text(
        f"""\
amqp: {{hostname: 127.0.0.1, port: {no_broker}, username: vumi, password: s3cret, vhost: /}}
connector_name: my_channel
http_bind: localhost:{port}
mo_message_url: http://127.0.0.1:9/
smpp_host: 10.1.2.3
"""
    )
    program = "from twisted.scripts.twistd import run; run()"
    worker = ("junebug-turn", "worker", "vumi2.applications.JunebugMessageApi")
    log = tmp_path / "log"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "--nodaemon", "--pidfile=", f"--logfile={log}", *worker],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "VUMI_CONFIG_FILE": str(file)},
    )
    try:
        end = time.monotonic() + 30
        text = ""
        while "No AMQP broker at" not in text:
            assert process.poll() is None, text
            assert time.monotonic() < end, text
            time.sleep(0.05)
            text = log.read_text() if log.exists() else ""
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://localhost:{port}/health", timeout=5)
        assert caught.value.code == 500
        caught.value.close()
    finally:
        process.terminate()
        process.wait(15)
    assert f"smpp_host: unknown option ({file})" in text
    assert "10.1.2.3" not in text
    assert "s3cret" not in text
    assert "Traceback" not in text
