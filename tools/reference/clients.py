"""The tables of errors in the pages for clients, between their markers.

Statuses, types and the form of an answer are the code's; when an error comes and what a client does is written here.
Tested by tests/project/test_docs_clients.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import frozen

from junebug_turn import errors
from junebug_turn.applications.kannel.messages import error_to_text
from junebug_turn.applications.rapidpro.application import FINAL
from junebug_turn.applications.rapidpro.messages import error_to_json
from junebug_turn.applications.turn.messages import errors_to_json
from junebug_turn.http.errors import Answer, answer_for, envelope

CORRECT = "Correct the request. Do not send the same request again."
AGAIN = "Send the same request again after `Retry-After` seconds."


@frozen
class Case:
    """One error of an API.

    :ivar error: an example of it
    :ivar when: when it comes
    :ivar advice: what the client does
    """

    error: Exception
    when: str
    advice: str = CORRECT


BAD_REQUEST = Case(
    errors.BadRequest("the body is not of the encoding gzip"),
    "The request is not HTTP/1.0 or 1.1, or the body does not fit its `Content-Encoding`.",
)
NOT_JSON = Case(
    errors.JsonDecodeError("Expecting value: line 1 column 1 (char 0)"),
    "The body is not strict JSON in UTF-8.",
)
NO_SENDER = Case(
    errors.ApiUsageError(
        '"from" must be specified for a message that is no reply, unless default_from_addr is configured'
    ),
    "Neither the request nor `default_from_addr` has a from address.",
    "Send a from address, or have the operator set `default_from_addr`.",
)
TOO_LONG = Case(
    errors.MessageTooLong(
        "Message content is of length 180, which is greater than the character limit of 160"
    ),
    "The text is longer than `character_limit`.",
    "Shorten or split the text.",
)
NOT_KNOWN = Case(
    errors.MessageNotFound("Inbound message with id 42be1538 not found"),
    "The message in `reply_to` is not known, or no longer (24 hours by default).",
    "Send a message without `reply_to`.",
)
COMMON = (
    BAD_REQUEST,
    Case(
        errors.Unauthorized("the request has no Authorization header"),
        "The credentials or the signature are missing or wrong.",
        "Correct the credentials or the secret.",
    ),
    Case(errors.NotFound("there is nothing at /message"), "The path is wrong.", "Correct the URL."),
    Case(
        errors.MethodNotAllowed("/messages takes POST only", ("POST",)),
        "The method is wrong; the header `Allow` names the right ones.",
        "Correct the method.",
    ),
    Case(
        errors.BodyTooLarge("the body is larger than 262144 bytes"),
        "The body is over `limits.max_body_size`.",
        "Send less.",
    ),
    Case(
        errors.MessageTooLarge(
            "the message has 20000000 bytes, and the broker takes 16777216 at most (its max_message_size)"
        ),
        "The message is over the broker's `max_message_size`.",
        "Send less.",
    ),
    Case(
        errors.UnsupportedEncoding("the content encoding br is not supported"),
        "The body has another `Content-Encoding` than `gzip` or `deflate`.",
        "Send the body uncompressed, or with gzip.",
    ),
    Case(
        errors.RateLimited("more than 50 requests a second"), "More requests than `rate_limit` allows.", AGAIN
    ),
    Case(
        errors.AmqpConnectionError("the broker did not confirm the message in time"),
        "The broker is away, or did not confirm in time. The message may be in its queue.",
        AGAIN,
    ),
    Case(
        errors.CacheError("the cache does not answer"),
        "The store of messages is away, slow or full.",
        AGAIN,
    ),
    Case(
        errors.NotAnsweredInTime("no answer was ready in time"),
        "The client closed its half of the connection, and no answer was ready 3 seconds later.",
        "Keep the connection open until the answer has come. " + AGAIN,
    ),
    Case(errors.ShuttingDown("the service is shutting down"), "The daemon is about to stop.", AGAIN),
    Case(
        errors.Unroutable("no queue for the message"),
        "The broker has no queue for the message.",
        AGAIN,
    ),
    Case(
        errors.RequestTimeout("the body took too long"),
        "The headers or the body arrived too slowly.",
        "Send the same request again.",
    ),
    Case(
        errors.HeadersTooLarge("there are too many headers"),
        "The headers are too many or too large.",
        "Send less.",
    ),
    Case(
        RuntimeError("a bug"),
        "A bug of the daemon; its log has the traceback.",
        "Report it to the operator. The message may have been sent.",
    ),
)
CROWDED = Case(
    errors.TooManyConnections("there are too many connections"),
    "The daemon, or your address, has too many connections.",
    "Keep connections open and use them again. " + AGAIN,
)
REUSED = Case(
    errors.IdempotencyKeyReused("this key was used for a request with another body"),
    "The `Idempotency-Key` was used for a request with another body.",
    "Take a new key for each message.",
)
JUNEBUG = (
    *COMMON,
    CROWDED,
    NOT_JSON,
    NOT_KNOWN,
    TOO_LONG,
    REUSED,
    Case(
        errors.InvalidBody("u'content' is a required property"),
        "A field is missing, unknown or of a wrong type; the message names it.",
    ),
    Case(
        errors.ApiUsageError('Either "to" or "reply_to" must be specified'),
        "There is neither `to` nor `reply_to`; no from address is known; or the `Idempotency-Key` is not a valid one.",
    ),
    Case(
        errors.ChannelNotFound("there is no channel demo2 here"),
        "There is no such channel.",
        "Correct the URL, or have the operator look at the channel.",
    ),
)
TURN = (
    *COMMON,
    CROWDED,
    NOT_JSON,
    NOT_KNOWN,
    NO_SENDER,
    TOO_LONG,
    Case(
        errors.InvalidBody("'to' is required"),
        "A field is missing or of a wrong type; the message names it.",
    ),
)
RAPIDPRO = (
    *COMMON,
    NOT_JSON,
    TOO_LONG,
    Case(errors.InvalidBody("'to' is required"), "A parameter is missing or wrong; the message names it."),
    Case(
        errors.ApiUsageError("the session has ended, and late_replies is refuse"),
        "There is no from address; or the session has ended, and `late_replies` is `refuse`.",
    ),
)
KANNEL = (
    *COMMON,
    NO_SENDER,
    TOO_LONG,
    REUSED,
    Case(
        errors.InvalidBody("Empty receiver number not allowed, rejected"),
        "A parameter is missing or wrong; the line names it.",
    ),
)


def _turn(answer: Answer) -> tuple[int, Any]:
    return 503 if answer.status == 429 else answer.status, errors_to_json(answer)


def _rapidpro(answer: Answer) -> tuple[int, Any]:
    return FINAL.get(answer.status, answer.status), error_to_json(answer)


FORMS: dict[str, tuple[tuple[Case, ...], Callable[[Answer], tuple[int, Any]]]] = {
    "junebug": (JUNEBUG, envelope),
    "turn": (TURN, _turn),
    "rapidpro": (RAPIDPRO, _rapidpro),
    "kannel": (KANNEL, error_to_text),
}
"""The name of an API -> its errors, and the function that gives an answer its status and its form."""


def _type_of(body: Any) -> str:
    """Return the type, and where an API has none, the line itself."""
    if isinstance(body, str):
        return body
    found: Any = body.get("errors") or body.get("error") or body["result"]["errors"]
    entry = found[0] if isinstance(found, list) else found
    return str(entry["type"])


def table(api: str) -> str:
    """Return the table of an API's errors, sorted by status, with an example of a body above it."""
    cases, form = FORMS[api]
    rows: dict[tuple[int, str, str], list[str]] = {}
    for case in cases:
        status, body = form(answer_for(case.error))
        rows.setdefault((status, _type_of(body), case.advice), []).append(case.when)
    example = next(case for case in cases if isinstance(case.error, errors.InvalidBody))
    status, body = form(answer_for(example.error))
    text = body if isinstance(body, str) else json.dumps(body)
    word = "Line" if isinstance(body, str) else "Type"
    lines = [
        f"The body of an answer with status {status}, for example:",
        "",
        "```json" if word == "Type" else "```text",
        text,
        "```",
        "",
    ]
    lines += [f"| Status | {word} | When | What to do |", "|---|---|---|---|"]
    lines += [
        f"| {status} | `{kind}` | {' '.join(when)} | {advice} |"
        for (status, kind, advice), when in sorted(rows.items())
    ]
    return "\n".join([*lines, ""])


def updated(api: str, text: str) -> str:
    """The page of an API with its table as the code has it now.

    :raises ValueError: the page has no place for it
    """
    head, begin, rest = text.partition("<!-- errors:")
    _, end, tail = rest.partition("<!-- end of errors -->")
    if not (begin and end):
        raise ValueError(f'docs/clients-{api}.md must have "<!-- errors: -->" and "<!-- end of errors -->"')
    return f"{head}{begin} made from the code by `make docs` -->\n\n{table(api)}\n{end}{tail}"


FILES: dict[str, Callable[[str], str]] = {f"docs/clients-{api}.md": partial(updated, api) for api in FORMS}
