"""Requests that schemathesis makes of the OpenAPI document, valid ones and others: ``make hostile`` runs this.

``SCHEMATHESIS`` is the path of the program, which has a virtual environment of its own.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
import treq
from twisted.internet.threads import deferToThread

from tests.integration.conftest import RunDaemon
from tests.support.configurations import JUNEBUG, KANNEL, RAPIDPRO, TURN
from tools.servers.receiver import Receiver

PROGRAM = os.environ.get("SCHEMATHESIS")
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
CONFIGURATIONS = {"junebug": JUNEBUG, "turn": TURN, "rapidpro": RAPIDPRO, "kannel": KANNEL}

pytestmark = pytest.mark.skipif(not PROGRAM, reason="only with SCHEMATHESIS in the environment")


@pytest.mark.parametrize("application", list(CONFIGURATIONS))
@pytest_twisted.ensureDeferred
async def test_requests_of_the_document(
    run_daemon: RunDaemon, receiver: Receiver, tmp_path: Path, application: str
) -> None:
    """Whatever the request, the answer is documented, with its body, and is no fault of ours."""
    options = {
        name: value
        for name, value in CONFIGURATIONS[application].items()
        if name not in ("application", "connector_name", "http_bind")
    }
    options |= {"default_from_addr": "8110", "admin_bind": "localhost:0"}
    if application == "junebug":
        options |= {"base_url_path": "/jb", "channels_store": "sqlite", "channels_http_bind": "127.0.0.1:0"}
        options["channels_path"] = str(tmp_path / "channels.db")
    async with run_daemon(application, **options) as side:
        admin = f"http://127.0.0.1:{cast(Any, side.daemon.addresses[-1]).port}"
        document = tmp_path / "openapi.json"
        response = await treq.get(f"{admin}/openapi.json", persistent=False)
        document.write_bytes(await response.content())
        ours = ("--include-tag", "operators"), ("--exclude-tag", "operators", "--exclude-tag", "daemon")
        for url, tags in zip((admin, side.url), ours, strict=True):
            command = [str(PROGRAM), "run", str(document), "--url", url, "--checks", CHECKS, *tags]
            command += ["--max-examples", "50", "--phases", "examples,coverage,fuzzing", "--no-color"]
            run = await deferToThread(
                subprocess.run, command, cwd=tmp_path, capture_output=True, text=True, timeout=900
            )
            assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
