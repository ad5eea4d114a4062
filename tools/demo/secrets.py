"""Secrets of the demo: those that its configuration leaves out are made at its first run.

Tested by tests/tools/demo/test_run.py.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from attrs import NOTHING

from junebug_turn.daemon.settings import explain
from tools.servers.process import ROOT

FILE = ROOT / "var" / "demo-secrets.env"
"""Lines as ``TURN_HMAC_SECRET=...``, which a shell can read too."""

_NAMES = ("auth_token", "turn_hmac_secret")


def with_secrets(config: str, environ: Mapping[str, str], file: Path = FILE) -> dict[str, str]:
    """Return the environment for the programs of the demo: ``environ``, and the secrets that the file leaves out.

    :param config: the configuration file
    :param file: where the secrets stand, so that the programs of all terminals have the same
    :raises OSError: it can't be written
    """
    found = {**environ}
    explained = explain({"config": config}, environ)
    prefix = environ.get("VUMI_CONFIG_PREFIX", "")
    for report in explained.applications:
        for name in _NAMES:
            if name in report and report[name].value is NOTHING and report[name].source == "default":
                variable = f"{prefix}_{name}" if prefix else name
                found[variable.upper()] = _read(file)[name]
    return found


def _read(file: Path) -> dict[str, str]:
    file.parent.mkdir(parents=True, exist_ok=True)
    made = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        with open(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as new:
            new.writelines(f"{name.upper()}={secrets.token_urlsafe(24)}\n" for name in _NAMES)
        # Of several programs that make it at once the first one's stays.
        os.link(made, file)
    except FileExistsError:
        pass
    finally:
        made.unlink(missing_ok=True)
    lines = (line.partition("=") for line in file.read_text("utf-8").splitlines())
    return {name.lower(): value for name, _, value in lines}
