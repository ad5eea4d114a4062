"""Commands of the installed package, run as a user runs them: from another folder, without the caller's variables."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

# The arguments of each command -> a text in its output.
COMMANDS: Mapping[tuple[str, ...], str] = {
    ("twistd", "--help"): "junebug-turn",
    ("twistd", "junebug-turn", "--help"): "--amqp-hostname",
    ("junebug-turn", "--version"): "junebug-turn {version}",
    ("junebug-turn", "parked", "--help"): "purge",
    ("jb", "--help"): "--redis-host",
}
CONFIGURATIONS = ("etc/junebug-turn.yaml", "etc/junebug-turn.production.yaml")
USABLE = "The configuration can be used."
# The secrets that the files leave to their users.
SECRETS = {"AMQP_PASSWORD": "amqp-secret", "AUTH_TOKEN": "auth-secret", "TURN_HMAC_SECRET": "hmac-secret"}


class ReleaseError(Exception):
    """A command that the check itself needs failed; the text has its output."""


def run(*command: str, cwd: Path) -> str:
    """Run a command in the caller's environment, without its Python path; its output.

    :raises ReleaseError: its exit status is not 0
    """
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    environment.pop("PYTHONPATH", None)
    status, output = _run(command, cwd, environment)
    if status:
        raise ReleaseError(f"{' '.join(command)} ended with status {status}:\n{output}")
    return output


def install(pip: Sequence[str], lock: Path, wheel: Path) -> None:
    """Install the wheel by the commands of docs/operations.md: no dependency whose hash is not in the lock.

    :raises ReleaseError: pip refuses it
    """
    folder = wheel.parent
    run(*pip, "install", "-q", "--no-compile", "--no-deps", "--require-hashes", "-r", str(lock), cwd=folder)
    run(*pip, "install", "-q", "--no-deps", str(wheel), cwd=folder)
    run(*pip, "check", cwd=folder)


def faults(programs: Path, source: Path, version: str, cwd: Path) -> Iterator[str]:
    """Each command that does not do what a user of this version expects.

    :param programs: the ``bin`` folder of the environment that the wheel is installed in
    :param source: the unpacked sdist, for its configuration files
    :param cwd: a folder where the package cannot be imported from
    """
    commands = {arguments: text.format(version=version) for arguments, text in COMMANDS.items()}
    for name in CONFIGURATIONS:
        check = ("junebug-turn", "check-config", "--no-connect", "--config", str(source / name))
        commands[check] = USABLE
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), **SECRETS}
    for (program, *arguments), text in commands.items():
        status, output = _run((str(programs / program), *arguments), cwd, environment)
        shown = " ".join([program, *arguments])
        if status:
            yield f"`{shown}` ends with status {status}: {_last_line(output)}"
        elif text not in output:
            yield f"`{shown}` prints no '{text}': {_last_line(output)}"


def _run(command: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    except OSError as error:
        return 127, str(error)
    return done.returncode, done.stdout


def _last_line(output: str) -> str:
    return (output.strip().splitlines() or ["no output"])[-1]
