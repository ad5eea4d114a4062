"""The private node: it runs, keeps to itself, and leaves nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tools.servers.process import ROOT, ProcessError
from tools.servers.rabbitmq import RabbitNode, is_broker


def _wait_for(condition: Callable[[], object], limit: float = 30.0) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "not so in time"
        time.sleep(0.05)


def _processes_of(folder: Path) -> list[int]:
    """The processes whose environment has ``folder``: a node's all have it as their HOME."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.fsencode(folder / "home") in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                pass
    return found


def test_a_node_takes_messages(
    rabbitmq: RabbitNode, pika_channel: BlockingChannel, connector_name: str
) -> None:
    """A message published to the node's queue comes out of it."""
    pika_channel.queue_declare(f"{connector_name}.inbound", durable=True)
    # A quorum queue has it only when it is confirmed.
    pika_channel.confirm_delivery()
    pika_channel.basic_publish("", f"{connector_name}.inbound", b"hello")
    _, _, body = pika_channel.basic_get(f"{connector_name}.inbound", auto_ack=True)
    assert body == b"hello"


def test_stop_app_and_start_app(rabbitmq: RabbitNode) -> None:
    """A stopped broker answers nobody; a started one answers again."""
    rabbitmq.stop_app()
    assert not is_broker(rabbitmq.host, rabbitmq.port)
    rabbitmq.start_app()
    assert is_broker(rabbitmq.host, rabbitmq.port)


def test_a_vhost_of_its_own(rabbitmq: RabbitNode, vhost: str) -> None:
    """A test can have a virtual host."""
    assert vhost in rabbitmq.ctl("list_vhosts").split()


def test_ctl_tells_of_failure(rabbitmq: RabbitNode) -> None:
    """A rabbitmqctl that fails raises, with what it said."""
    with pytest.raises(ProcessError, match="no_such_command"):
        rabbitmq.ctl("no_such_command")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")
def test_everything_listens_on_this_machine_only(rabbitmq: RabbitNode) -> None:
    """No port of the node can be reached from another machine."""
    inodes = set()
    for pid in _processes_of(rabbitmq.folder):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes.add(os.readlink(descriptor))
            except OSError:
                pass
    listening = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                listening.add(fields[1].split(":")[0])
    assert listening
    assert listening <= {"0100007F", "0" * 24 + "01000000"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")
def test_a_node_ends_with_who_started_it(tmp_path: Path) -> None:
    """A node whose starter is killed ends with its port mapper and guard; its data is there at the next start."""
    script = (
        "import sys, pathlib, tools.servers.rabbitmq as r\n"
        "n = r.RabbitNode(pathlib.Path(sys.argv[1])); n.start(); n.ctl('add_vhost', 'kept')\n"
        "print('up', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"up\n"
        assert len(_processes_of(tmp_path)) >= 3
        starter.kill()
    _wait_for(lambda: not _processes_of(tmp_path))
    with RabbitNode(tmp_path) as node:
        assert "kept" in node.ctl("list_vhosts").split()
    assert not _processes_of(tmp_path)


def test_a_port_that_is_taken(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    """A node whose port another program has is refused with a clear word."""
    with pytest.raises(ProcessError, match="is taken by another program"):
        RabbitNode(tmp_path, rabbitmq.port).start()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")
def test_a_node_that_is_not_ready_in_time(tmp_path: Path) -> None:
    """A node that takes too long is stopped, and the error shows the end of its log."""
    with pytest.raises(ProcessError, match=r"(?s)isn't ready after 0.5 seconds.*--- output.log"):
        RabbitNode(tmp_path).start(timeout=0.5)
    # Erlang's helpers have sessions of their own, and end a moment after a node that was killed.
    _wait_for(lambda: not _processes_of(tmp_path))


def test_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where RabbitMQ isn't installed the error says what to do."""
    monkeypatch.setattr("tools.servers.installed.find_program", lambda name: None)
    with pytest.raises(ProcessError, match="rabbitmq-server is not installed"):
        RabbitNode(tmp_path).start()
