"""The pages for clients, held against the code: tables of errors, test vectors of signatures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from junebug_turn import errors
from junebug_turn.applications.registry import APPLICATION_TYPES
from junebug_turn.applications.turn.signature import sign
from junebug_turn.delivery.signature import signature, signing_key
from junebug_turn.http.errors import answer_for
from junebug_turn.http.text import line_of_text
from tests.support.application_harness import Face
from tests.support.configurations import JUNEBUG, KANNEL, RAPIDPRO, TURN
from tools.reference.clients import FILES, FORMS, updated

DOCS = Path(__file__).parents[2] / "docs"
CONFIGURATIONS = {"junebug": JUNEBUG, "turn": TURN, "rapidpro": RAPIDPRO, "kannel": KANNEL}
# Errors of the API for channels, of the operators' page, and of bytes that belong to no application yet.
OTHERS = {
    *("InvalidChannelType", "InvalidRouterType", "InvalidRouterConfig", "InvalidRouterDestinationConfig"),
    *(
        "Forbidden",
        "RouterNotFound",
        "DestinationNotFound",
        "ChannelConfigured",
        "ChangedMeanwhile",
        "QueuesRefused",
    ),
}


def _vector(page: str) -> dict[str, str]:
    text = (DOCS / page).read_text("utf-8")
    block = next(block for block in re.findall(r"```text\n(.*?)```", text, re.DOTALL) if "secret:" in block)
    return dict(re.split(r": +", line, maxsplit=1) for line in block.splitlines())


@pytest.mark.parametrize("api", list(FORMS))
def test_the_form_of_an_error(api: str) -> None:
    """Each error in an API's table has the status and the body that the application answers with."""
    kind = next(each for each in APPLICATION_TYPES if each.name == api)
    application = Face.of(kind, CONFIGURATIONS[api]).application
    cases, form = FORMS[api]
    for case in cases:
        answer = answer_for(case.error)
        status, body = application.answer(answer)
        made: tuple[int, Any] = form(answer)
        shown = line_of_text(made[1]) if isinstance(made[1], str) else made[1]
        assert (status, body) == (made[0], shown)


@pytest.mark.parametrize(
    ("api", "others"),
    [("junebug", OTHERS), ("turn", OTHERS | {"ChannelNotFound", "IdempotencyKeyReused"})],
)
def test_every_error_is_there(api: str, others: set[str]) -> None:
    """The page for the clients of Junebug, or Turn, has each error that a request for a message can get."""
    shown = {type(case.error) for case in FORMS[api][0]}
    for name, found in vars(errors).items():
        if not (isinstance(found, type) and issubclass(found, errors.JunebugTurnError)):
            continue
        if name not in others and not issubclass(found, errors.DeliveryFailed):
            error = found("", ()) if found is errors.MethodNotAllowed else found("")
            assert answer_for(error).type == "InternalServerError" or found in shown, name


@pytest.mark.parametrize("api", list(FORMS))
def test_sorted_by_status(api: str) -> None:
    """The rows are sorted by status; a page without a place for them is refused."""
    text = (DOCS / f"clients-{api}.md").read_text("utf-8")
    statuses = re.findall(r"^\| (\d{3}) \| `", text, re.MULTILINE)
    assert len(statuses) > 8
    assert statuses == sorted(statuses)
    with pytest.raises(ValueError, match="errors"):
        updated(api, "# A page\n")
    assert f"docs/clients-{api}.md" in FILES


def test_the_vector_of_webhooks() -> None:
    """The test vector of Standard Webhooks is a signature that the daemon makes."""
    vector = _vector("clients-junebug.md")
    made = signature(
        signing_key(vector["secret"]),
        vector["webhook-id"],
        int(vector["webhook-timestamp"]),
        vector["body"].encode(),
    )
    assert made == vector["webhook-signature"]


def test_the_vector_of_turn() -> None:
    """The test vector of Turn's signature is one that the daemon accepts."""
    vector = _vector("clients-turn.md")
    assert (
        sign(vector["secret"].encode(), vector["body"].encode()).decode() == vector["X-Turn-Hook-Signature"]
    )
