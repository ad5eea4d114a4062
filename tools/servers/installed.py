"""Programs of the system that the tools need: ``python -m tools.servers.installed rabbitmq-server``.

The command has a program installed if it is missing.  Where ``SERVERS_TREE`` names the folder of another system, as
``tools/compat/tree.py`` makes one, the programs are that system's.  Tested by tests/tools/servers/test_rabbitmq.py,
test_redis.py and test_installed.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tools.servers.process import ROOT, ProcessError

# Debian's /usr/sbin/rabbitmq-server changes to the user rabbitmq when root calls it, and that user can't
# write to our folders: the scripts behind it come first.
_FOLDERS = (
    "/usr/lib/rabbitmq/bin",
    "/opt/rabbitmq/sbin",
    "/opt/homebrew/opt/rabbitmq/sbin",
    "/usr/local/opt/rabbitmq/sbin",
)
TREE = "SERVERS_TREE"
"""The environment variable with the folder of another system."""

# In a mount namespace of its own: the mounts end with the program, however that ends.
_ENTER = """
tree=$1 folder=$2; shift 2
for shared in /proc /dev /tmp; do mount --rbind $shared "$tree$shared"; done
mkdir -p "$tree$folder"
mount --bind "$folder" "$tree$folder"
exec chroot "$tree" "$@"
"""
_USUAL = ("/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin")

# Debian's packages whose names are not those of their programs.
_PACKAGES = {"chromedriver": "chromium-driver"}


def search_path() -> str:
    """Return PATH with the usual folders after it: that of a service may have few."""
    return os.pathsep.join([os.environ.get("PATH", ""), *_USUAL])


def system_tree() -> Path | None:
    """Return the folder of the other system whose programs are used; None: this system's are."""
    named = os.environ.get(TREE)
    return Path(named).resolve() if named else None


def find_program(name: str) -> str | None:
    """Return the path of a program, in the other system where one is named; None where it isn't installed."""
    tree = system_tree()
    if tree is not None:
        return _find_in(tree, name, [*_FOLDERS, *_USUAL])
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


def command(name: str, folder: Path) -> list[str]:
    """Return the command that runs a program, to which arguments may be added.

    :param folder: where it reads and writes: another system sees it at the same path
    :raises ProcessError: it isn't installed
    """
    return in_system(required(name), folder)


def in_system(program: str, folder: Path) -> list[str]:
    """Return the command that runs a program by its path: see ``command``."""
    tree = system_tree()
    if tree is None:
        return [program]
    enter = ["unshare", "--mount", "sh", "-ec", _ENTER, "sh", str(tree), str(folder)]
    return [*enter, program]


def find_files(*patterns: str) -> list[str]:
    """Find the files of the system whose paths, without the first slash, match a pattern."""
    tree = system_tree() or Path("/")
    return [f"/{path.relative_to(tree)}" for pattern in patterns for path in sorted(tree.glob(pattern))]


def _find_in(tree: Path, name: str, folders: Iterable[str]) -> str | None:
    for folder in folders:
        # A link may lead to where it does in that system only.
        if os.path.lexists(f"{tree}{folder}/{name}"):
            return f"{folder}/{name}"
    return None


def ensure_installed(name: str) -> None:
    """Have a program installed if it is missing.

    :param name: of the program
    :raises ProcessError: it can't; the installer has said on stderr what to do
    """
    if system_tree() is not None:
        required(name)
    elif find_program(name) is None:
        package = _PACKAGES.get(name, name)
        subprocess.run([str(ROOT / "tools" / "servers" / "install-system.sh"), package], check=False)
        if find_program(name) is None:
            raise ProcessError(f"{name} is not installed")


if __name__ == "__main__":
    try:
        ensure_installed(sys.argv[1])
    except ProcessError as error:
        sys.exit(str(error))
