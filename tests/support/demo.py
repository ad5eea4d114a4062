"""`make run` on free ports, as the readers of the pages use it: terminals at its phones, and a shell."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.tools.demo.test_run import Run
from tools.demo.secrets import with_secrets
from tools.servers.process import ROOT
from tools.servers.rabbitmq import RabbitNode

BINARIES = Path(sys.executable).parent
CONFIGURATION = "/etc/junebug-turn/junebug-turn.yaml"
# A terminal has the program; the machine of the tests need not.
TELNET = f"""#!{sys.executable}
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as phone:
    phone.sendall(sys.stdin.buffer.read())
"""


def command_of(language: str, text: str, folder: Path) -> list[str]:
    """The command that runs a program of a page."""
    file = folder / f"program-{time.monotonic_ns()}.{'py' if language == 'python' else 'js'}"
    file.write_text(text, "utf-8")
    runner = sys.executable if language == "python" else shutil.which("node")
    assert runner
    return [runner, str(file)]


class Demo:
    """`make run`, and a terminal at the phone of each channel.

    :param added: what a reader adds at the end of the configuration
    """

    def __init__(self, folder: Path, node: RabbitNode, added: str = "", **environ: str) -> None:
        self.folder = folder
        self.run = Run(folder / "var", node.port, added, **environ)
        self.run.until("Ctrl-C stops everything")
        ports = (self.run.phone, self.run.turn_phone, self.run.rapidpro_phone, self.run.kannel_phone)
        names = ("junebug", "turn", "rapidpro", "kannel")
        self._places = {
            "127.0.0.1:8080": f"127.0.0.1:{self.run.http}",
            "127.0.0.1:8081": f"127.0.0.1:{self.run.receiver}",
            "10.0.0.5:8082": f"127.0.0.1:{self.run.operators}",
            **{f"127.0.0.1 {8023 + number}": f"127.0.0.1 {port}" for number, port in enumerate(ports)},
            CONFIGURATION: str(self.configuration),
            ".venv/bin/": f"{BINARIES}/",
        }
        self._sockets = [socket.create_connection(("127.0.0.1", port), 60) for port in ports]
        files = [connection.makefile("rw", newline="\n") for connection in self._sockets]
        self.phones = dict(zip(names, files, strict=True))
        for phone in files:
            phone.readline()
        programs = folder / "bin"
        programs.mkdir()
        (programs / "telnet").write_text(TELNET)
        (programs / "telnet").chmod(0o755)
        self._environ = {
            **with_secrets(str(self.configuration), os.environ),
            "AMQP_PORT": str(node.port),
            "PATH": os.pathsep.join([str(programs), str(BINARIES), os.environ["PATH"]]),
        }

    @property
    def configuration(self) -> Path:
        """The file of the daemon."""
        return self.folder / "var" / "config.yaml"

    def at_its_places(self, text: str) -> str:
        """The same text with the addresses, the file and the programs of this demo."""
        for place, found in self._places.items():
            text = text.replace(place, found)
        # The demo's programs take the addresses from a file.
        return re.sub(r"(-m tools\.demo\.\w+ .*)", rf"\1 --config {self.configuration}", text)

    def shell(self, script: str, typed: str = "", status: int = 0, **environ: str) -> str:
        """What a script prints in the project's folder, which has ``var``, when this is typed."""
        terminal, stdin = os.openpty()
        os.write(terminal, typed.encode())
        try:
            done = subprocess.run(
                ["sh", "-ec", self.at_its_places(script)],
                cwd=ROOT,
                stdin=stdin,
                capture_output=True,
                text=True,
                check=False,
                timeout=110,
                env=self._environ | environ,
                # With no terminal but that.
                start_new_session=True,
            )
        finally:
            os.close(stdin)
            os.close(terminal)
        assert done.returncode == status, (script, done.stdout, done.stderr)
        return done.stdout

    def program(self, language: str, text: str, **environ: str) -> str:
        """What a program prints."""
        done = subprocess.run(
            command_of(language, self.at_its_places(text), self.folder),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=environ,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def type(self, page: str, line: str) -> None:
        self.phones[page].write(line + "\n")
        self.phones[page].flush()

    def shown(self, page: str, text: str) -> list[str]:
        """The lines that appear at the phone, up to the first with ``text``."""
        lines = [""]
        while text not in lines[-1]:
            lines.append(self.phones[page].readline())
            assert lines[-1], f"no {text} in {lines}"
        return lines

    def close(self) -> None:
        for connection in self._sockets:
            connection.close()
        self.run.process.terminate()
        self.run.end()
