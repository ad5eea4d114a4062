"""The steps of docs/operations.md that install the daemon, run as printed in a folder that stands for the machine.

What makes the environment is in tests/project/test_packaging.py, what systemd and Docker make of the files in the tests
of those: here their programs only say how they were called.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.demo import BINARIES
from tests.support.pages import ROOT, block, text_of
from tools.servers.rabbitmq import RabbitNode

PAGE = "docs/operations.md"
PASSWORD = "a-password-of-this-test"
USER = "junebug-turn"
SUDO = '#!/bin/sh\nexec "$@"\n'
RECORDED = '#!/bin/sh\necho "$(basename "$0") $*" >> "$CALLS"\n'


class Machine:
    """A folder with /etc, /opt and /usr, and the programs that the steps call."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = folder / "calls"
        self._programs = folder / "bin"
        for path in ("bin", "opt/junebug-turn/bin", "etc/systemd/system", "usr", "project"):
            (folder / path).mkdir(parents=True)
        self.program("sudo", SUDO)
        for name in ("systemctl", "docker", "python3", "../opt/junebug-turn/bin/pip"):
            self.program(name, RECORDED)
        for name in ("junebug-turn", "twistd"):
            (folder / "opt/junebug-turn/bin" / name).symlink_to(BINARIES / name)

    def program(self, name: str, text: str) -> None:
        """Put a program on its PATH."""
        path = self._programs / name
        path.write_text(text)
        path.chmod(0o755)

    def run(self, script: str, typed: str = "", cwd: Path = ROOT) -> str:
        """Run a script; returns what it prints."""
        script = re.sub(r"(?<=[\s=])/(opt|etc|usr)/", rf"{self.folder}/\1/", f" {script}")
        path = os.pathsep.join([str(self._programs), str(BINARIES), os.environ["PATH"]])
        done = subprocess.run(
            ["sh", "-ec", script],
            cwd=cwd,
            input=typed,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
            env={"PATH": path, "CALLS": str(self.calls), "HOME": str(self.folder)},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def called(self) -> list[str]:
        """The calls of programs that are not here."""
        return self.calls.read_text().splitlines()

    def file(self, path: str) -> Path:
        return self.folder / path


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def broker(rabbitmq: RabbitNode) -> Iterator[RabbitNode]:
    """The broker, with the user of the production file."""
    rabbitmq.ctl("add_user", USER, PASSWORD)
    rabbitmq.ctl("set_permissions", "-p", "/", USER, ".*", ".*", ".*")
    yield rabbitmq
    rabbitmq.ctl("delete_user", USER)


def test_with_systemd(machine: Machine, broker: RabbitNode) -> None:
    """After the steps the configuration, the unit and a password that only root can read are in their places, the
    check has logged in at the broker, and the commands for operators work."""
    configuration = machine.file("etc/junebug-turn/junebug-turn.yaml")
    # The reader edits the file: another broker, no destinations that this machine can't reach.
    edits = {
        "^  hostname: 127.0.0.1": f"  hostname: 127.0.0.1\\\\n  port: {broker.port}",
        "https://example.org/": f"http://{broker.host}:{broker.port}/",
        "/var/lib/junebug-turn/": f"{machine.folder}/",
    }
    sed = " ".join(f"-e 's|{old}|{new}|'" for old, new in edits.items())
    machine.program("sudoedit", f'#!/bin/sh\nexec sed -i {sed} "$1"\n'.replace("\\\\n", "\\n"))
    printed = machine.run(block(PAGE, "sudo python3"), f"{PASSWORD}\n")
    assert "The configuration can be used." in printed
    assert machine.called() == [
        f"python3 -m venv {machine.folder}/opt/junebug-turn",
        "pip install --require-hashes -r requirements-run.lock",
        "pip install --no-deps --no-build-isolation .",
        "systemctl daemon-reload",
        "systemctl enable --now junebug-turn",
    ]
    unit = machine.file("etc/systemd/system/junebug-turn.service").read_text()
    password = machine.file("etc/junebug-turn/amqp_password")
    assert f"/etc/junebug-turn/{password.name}" in unit
    assert f"/etc/junebug-turn/{configuration.name}" in unit
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    assert stat.S_IMODE(configuration.stat().st_mode) == 0o644
    commands = block(PAGE, "export") + "junebug-turn parked list\n"
    assert machine.run(commands).strip() == "No parked messages."


def test_the_user(machine: Machine, rabbitmq: RabbitNode) -> None:
    """The commands make a user of the broker with the permissions that the page names."""
    machine.program("rabbitmqctl", RECORDED)
    machine.run(block(PAGE, "sudo rabbitmqctl"))
    making, permitting = (call.split()[1:] for call in machine.called())
    rabbitmq.ctl(*making, PASSWORD)
    try:
        rabbitmq.ctl(*permitting)
        found = rabbitmq.ctl("list_user_permissions", USER).splitlines()[-1].split()
    finally:
        rabbitmq.ctl("delete_user", USER)
    sentence = text_of(PAGE).replace("\n  ", " ")
    for right, pattern in zip(("configure", "write", "read"), found[1:], strict=True):
        assert f"{right} `{pattern}`" in sentence


def test_further_secrets() -> None:
    """The lines for the unit give each secret to an option that there is, or to a file that an entry names."""
    lines = [line for line in block(PAGE, "[Service]").splitlines() if "=" in line and line[0] != "#"]
    loaded = dict(line.removeprefix("LoadCredential=").split(":") for line in lines if ":" in line)
    assert all(path == f"/etc/junebug-turn/{name}" for name, path in loaded.items())
    variables = [line.removeprefix("Environment=").split("=") for line in lines if ":" not in line]
    for variable, path in variables:
        assert variable.removesuffix("_FILE").lower() == path.removeprefix("%d/")
        assert f"`{variable.removesuffix('_FILE')}`" in text_of("docs/options.md")
        loaded.pop(path.removeprefix("%d/"))
    assert [
        f"{name}_file: /run/credentials/junebug-turn.service/{name}" in text_of(PAGE) for name in loaded
    ] == [True]


def test_the_manual_page(machine: Machine) -> None:
    """The manual page and the completion are installed where man and bash look for them."""
    machine.run(block(PAGE, "sudo install"))
    page = machine.file("usr/local/share/man/man1/junebug-turn.1")
    completion = machine.file("usr/share/bash-completion/completions/junebug-turn")
    assert page.read_bytes() == (ROOT / "etc" / "man" / "junebug-turn.1").read_bytes()
    subprocess.run(["bash", "-n", str(completion)], check=True, timeout=60)


def test_with_docker(machine: Machine) -> None:
    """The secrets are in a folder that nobody else can look into, and the broker's configuration has the password."""
    machine.run(block(PAGE, "mkdir"), cwd=machine.file("project"))
    secrets = machine.file("project/secrets")
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    password = (secrets / "amqp_password").read_text().strip()
    assert len(password) == 48
    lines = (secrets / "rabbitmq.conf").read_text().splitlines()
    assert lines == ["default_user = junebug-turn", f"default_pass = {password}"]
    assert machine.called() == ["docker compose up -d --build", "docker compose ps"]
    compose = (ROOT / "docker-compose.yml").read_text()
    assert all(f"secrets/{path.name}" in compose for path in secrets.iterdir())
