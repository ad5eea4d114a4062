"""Content-Encoding of requests: gzip and deflate are read, within the size limit of a body."""

from __future__ import annotations

from typing import Any

from junebug_turn.errors import BadRequest, DamagedBody
from junebug_turn.messages.compression import decompress


def decode(request: Any, body: bytes) -> bytes:
    """Return the body of a request without its Content-Encoding.

    An API calls this once it knows whom a request is from, so that a stranger has nothing decompressed.

    :param request: an ``ApiRequest``; of the body no more than its site's ``max_body_size`` is decompressed
    :raises UnsupportedEncoding: the encoding is another one than gzip and deflate, or there are several
    :raises BodyTooLarge: the decompressed body is larger than ``max_body_size``
    :raises BadRequest: the body doesn't have its encoding
    """
    headers = request.requestHeaders.getRawHeaders(b"content-encoding")
    if not headers:
        return body
    encodings = b",".join(headers).decode("latin-1")
    try:
        return decompress(body, encodings, "Content-Encoding", request.site.limits.max_body_size)
    except DamagedBody as fault:
        raise BadRequest(str(fault)) from None
