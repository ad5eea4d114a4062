"""Programs of the system that the tools need: ``python -m tools.servers.installed rabbitmq-server``.

The command has a program installed if it is missing.  Tested by tests/tools/servers/test_rabbitmq.py and test_redis.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from tools.servers.process import ROOT, ProcessError

# Debian's /usr/sbin/rabbitmq-server changes to the user rabbitmq when root calls it, and that user can't
# write to our folders: the scripts behind it come first.
_FOLDERS = (
    "/usr/lib/rabbitmq/bin",
    "/opt/rabbitmq/sbin",
    "/opt/homebrew/opt/rabbitmq/sbin",
    "/usr/local/opt/rabbitmq/sbin",
)
_USUAL = ("/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin")


def search_path() -> str:
    """Return PATH with the usual folders after it: that of a service may have few."""
    return os.pathsep.join([os.environ.get("PATH", ""), *_USUAL])


def find_program(name: str) -> str | None:
    """Return the path of a program; None where it isn't installed."""
    return shutil.which(name, path=os.pathsep.join(_FOLDERS)) or shutil.which(name, path=search_path())


def required(name: str) -> str:
    """Return the path of a program.

    :raises ProcessError: it isn't installed
    """
    found = find_program(name)
    if found is None:
        raise ProcessError(
            f"{name} is not installed: tools/servers/install-system.sh says or does what is needed"
        )
    return found


def ensure_installed(name: str) -> None:
    """Have a program installed if it is missing.

    :param name: of the program, and of Debian's package
    :raises ProcessError: it can't; the installer has said on stderr what to do
    """
    if find_program(name) is None:
        subprocess.run([str(ROOT / "tools" / "servers" / "install-system.sh"), name], check=False)
        if find_program(name) is None:
            raise ProcessError(f"{name} is not installed")


if __name__ == "__main__":
    try:
        ensure_installed(sys.argv[1])
    except ProcessError as error:
        sys.exit(str(error))
