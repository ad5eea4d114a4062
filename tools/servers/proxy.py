"""A private HTTP proxy, tinyproxy, for the tests.

It has a port and a folder of its own and listens on this machine only.  Tested by tests/integration/test_proxy.py.
"""

from __future__ import annotations

import re
import socket

from tools.servers.installed import command
from tools.servers.process import Server

PROGRAM = "tinyproxy"

_CONFIGURATION = """\
Port {port}
Listen {host}
Allow {host}
Timeout 600
LogLevel Connect
"""


class TinyProxy(Server):
    """A proxy.

    :param settings: further lines of its configuration, as ``BasicAuth user password``
    """

    def __init__(self, settings: str = "") -> None:
        super().__init__("tinyproxy")
        self._settings = settings

    @property
    def url(self) -> str:
        """The address as the option ``http_proxy`` has it, without user and password."""
        return f"http://{self.host}:{self.port}"

    def start(self, timeout: float = 20.0) -> None:
        """Start the proxy and wait until it takes connections.

        :param timeout: seconds
        :raises ProcessError: not installed, or not ready in time
        """
        program = command(PROGRAM, self.folder)
        file = self.folder / "tinyproxy.conf"
        file.write_text(
            _CONFIGURATION.format(host=self.host, port=self.port) + self._settings + "\n", "ascii"
        )
        self._run([*program, "-d", "-c", str(file)], limit=timeout)

    def answers(self) -> bool:
        try:
            socket.create_connection((self.host, self.port), 1.0).close()
        except OSError:
            return False
        return True

    @property
    def requests(self) -> list[str]:
        """The first line of each request that it had, as ``CONNECT example.org:443 HTTP/1.1``."""
        log = (self.folder / "output.log").read_text("utf-8", "replace")
        return re.findall(r"Request \(file descriptor \d+\): (.*)", log)
