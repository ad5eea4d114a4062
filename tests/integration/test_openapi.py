"""``GET /openapi.json`` at the operators' address: OpenAPI 3.1 of every face that runs, callbacks included."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
import pytest_twisted
import treq
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from junebug_turn.http.admin.openapi import PAGES
from tests.integration.conftest import RunDaemon
from tools.servers.receiver import Receiver


@pytest.mark.options(admin_bind="localhost:0", base_url_path="/jb")
@pytest_twisted.ensureDeferred
async def test_served(run_daemon: RunDaemon, receiver: Receiver) -> None:
    """The document is at the operators' address only, and what it says of the daemon's pages is so."""
    async with run_daemon("junebug", mo_message_url=receiver.url()) as side:
        url = f"http://127.0.0.1:{cast(Any, side.daemon.addresses[-1]).port}"
        document = await treq.json_content(await treq.get(f"{url}/openapi.json", persistent=False))
        elsewhere = await side.request("GET", "/openapi.json")
        for path, methods in PAGES.operations.items():
            response = await treq.get(url + path, persistent=False)
            text = await response.text()
            (content,) = PAGES.answers(methods["get"], False)[str(response.code)]["content"].items()
            media, schema = content[0], content[1]["schema"]
            assert response.code == 200
            assert (response.headers.getRawHeaders("content-type") or [""])[0].startswith(media)
            if media == "application/json":
                Draft202012Validator(schema).validate(json.loads(text))
    assert elsewhere.status == 404
    OpenAPIV31SpecValidator(document).validate()
    assert document["openapi"] == "3.1.0"
    post = document["paths"]["/jb/messages"]["post"]
    assert "{$request.body#/event_url}" in post["callbacks"]["event"]
    assert f"{side.connector}.mo_message_url" in document["webhooks"]
    assert set(PAGES.operations) <= set(document["paths"])
