"""The certificates' tests on the oldest Twisted that ``setup.cfg`` allows: ``python -m tools.compat.oldest``.

Twisted verifies certificates in another way in each version, and a fault there shows in no other test.
Tested by tests/tools/compat/test_oldest.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

from tools.servers.process import ROOT, ProcessError

DISTRIBUTION = "Twisted[tls]"
TESTS = ("tests/unit/net/test_tls.py", "tests/integration/test_certificates.py")
_READY = "ready"  # in the environment: from which versions it was made


def oldest(setup: str) -> str:
    """Read the lowest version of Twisted in the text of ``setup.cfg``.

    :raises ProcessError: it has none
    """
    config = ConfigParser()
    config.read_string(setup)
    requirements = config["options"]["install_requires"]
    found = re.search(rf"^{re.escape(DISTRIBUTION)} *>= *([\d.]+)", requirements, re.MULTILINE)
    if found is None:
        raise ProcessError(f"setup.cfg has no lowest version of {DISTRIBUTION}")
    return found[1]


def ensure_environment(version: str, lock: Path, folder: Path) -> Path:
    """Make a virtual environment with this Twisted and all else of ``lock``, a minute, unless it is there; its Python.

    :raises ProcessError: it can't be made; pip has printed why
    """
    python = folder / "bin" / "python"
    ready = folder / _READY
    made_from = f"{version}\n{lock.read_text('utf-8')}"
    if ready.exists() and ready.read_text("utf-8") == made_from:
        return python
    print(f"Installing Twisted {version} into {folder}, a minute", file=sys.stderr)
    install = (str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check")
    _run(sys.executable, "-m", "venv", "--clear", str(folder))
    _run(*install, "--require-hashes", "-r", str(lock))
    _run(*install, f"{DISTRIBUTION} == {version}")
    ready.write_text(made_from, "utf-8")
    return python


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise ProcessError(f"{' '.join(command)} ended with status {done.returncode}")


def main() -> None:
    """Run the tests; the exit status is theirs, or 1 when there is no such environment."""
    try:
        version = oldest((ROOT / "setup.cfg").read_text("utf-8"))
        python = ensure_environment(version, ROOT / "requirements.lock", ROOT / "var" / f"twisted-{version}")
    except ProcessError as error:
        sys.exit(f"Nothing was tested on the oldest Twisted: {error}")
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
    sys.exit(subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, check=False).returncode)


if __name__ == "__main__":
    main()
