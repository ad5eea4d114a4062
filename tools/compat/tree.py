"""Debian 13 in a folder, for its RabbitMQ 4 and Redis 8: ``python -m tools.compat.tree`` makes it and prints its path.

With that path in ``SERVERS_TREE`` the private servers are those of Debian 13: see ``tools/servers/installed.py``.
Tested by tests/tools/compat/test_tree.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools.servers.installed import ensure_installed, find_program
from tools.servers.process import ROOT, ProcessError

RELEASE = "trixie"
PACKAGES = ("rabbitmq-server", "redis-server", "tinyproxy")
TREE = ROOT / "var" / "debian-13"
_PROGRAM = "debootstrap"
# A mount namespace of its own, so that no mount stays behind.
_ENTER = ("unshare", "--mount")
# debootstrap gives dpkg some packages together with those that have to be configured before them, and ends there.  All
# packages are in the folder then; each round installs those whose needs the round before has configured.
_FINISH = """
mount --rbind /proc "$1/proc"
printf '#!/bin/sh\\nexit 101\\n' > "$1/usr/sbin/policy-rc.d"  # starts no server
chmod 755 "$1/usr/sbin/policy-rc.d"
for round in 1 2 3 4; do
    chroot "$1" sh -c 'dpkg --force-confold --skip-same-version --install /var/cache/apt/archives/*.deb
        installed=$?; dpkg --configure -a && exit $installed' && exit 0
done
exit 1
"""
_FINISHED = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def ensure_tree(tree: Path = TREE) -> Path:
    """Make the tree, a minute, unless it is there from an earlier call; its path.

    :raises ProcessError: it can't be made; the text says why
    """
    if tree.exists():
        return tree
    _check_rights()
    try:
        ensure_installed(_PROGRAM)
    except ProcessError as fault:
        raise ProcessError(f"{fault}: it makes the folder with Debian 13") from None
    unfinished = tree.with_name(f"{tree.name}.{os.getpid()}")
    log = tree.with_name(f"{tree.name}.log")
    tree.parent.mkdir(parents=True, exist_ok=True)
    try:
        _install(unfinished, log)
        # Another call may have been quicker.
        if not tree.exists():
            unfinished.rename(tree)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return tree


def _check_rights() -> None:
    if os.geteuid() != 0:
        raise ProcessError("Debian 13 can be put into a folder by root only")
    # Containers often may not mount.
    trial = subprocess.run(
        [find_program("unshare") or "unshare", "--mount", "true"], capture_output=True, text=True, check=False
    )
    if trial.returncode:
        raise ProcessError(f"no file system can be mounted here: {trial.stderr.strip()}")


def _install(folder: Path, log: Path) -> None:
    options = ["--variant=minbase", f"--include={','.join(PACKAGES)}"]
    command = [*_ENTER, find_program(_PROGRAM) or _PROGRAM, *options, RELEASE, str(folder)]
    print(f"Installing {' and '.join(PACKAGES)} of Debian 13 into a folder, a minute", file=sys.stderr)
    with open(log, "wb") as output:
        done = subprocess.run(
            [*command, *_mirror()], stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        )
    if done.returncode and (folder / "usr" / "sbin").exists():
        with open(log, "ab") as output:
            output.write((folder / "debootstrap" / "debootstrap.log").read_bytes())
            output.flush()
            finished = subprocess.run(
                [*_ENTER, "sh", "-c", _FINISH, "sh", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | _FINISHED,
                check=False,
            )
        done.returncode = finished.returncode and done.returncode
    if done.returncode:
        end = log.read_text("utf-8", "replace")[-2000:]
        raise ProcessError(f"{_PROGRAM} ended with status {done.returncode}\n--- {log}\n{end}")
    shutil.rmtree(folder / "var" / "cache" / "apt", ignore_errors=True)


def _mirror() -> list[str]:
    """Return the mirror of Debian that this machine uses; debootstrap has a default of its own."""
    try:
        found = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return []
    lines = (line.split() for line in found.stdout.splitlines())
    return [words[1] for words in lines if len(words) == 2 and words[0] == "Debian"][:1]


if __name__ == "__main__":
    try:
        print(ensure_tree())
    except ProcessError as error:
        sys.exit(str(error))
