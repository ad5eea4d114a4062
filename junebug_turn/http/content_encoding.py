"""Content-Encoding of requests: gzip and deflate are read, within the size limit of a body."""

from __future__ import annotations

import zlib
from typing import Any

from junebug_turn.errors import BadRequest, BodyTooLarge, UnsupportedEncoding

# zlib's window bits: 31 takes gzip, 15 zlib's own form, -15 the same without its header and checksum.
_GZIP, _ZLIB, _RAW = 31, 15, -15
# Each member of a gzip body copies what follows it.
_MAX_MEMBERS = 100
_ENCODINGS = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}


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
    names = [name.strip().lower() for name in b",".join(headers).decode("latin-1").split(",")]
    encodings = [name for name in names if name not in ("", "identity")]
    if not encodings:
        return body
    bits = _ENCODINGS.get(encodings[0])
    if bits is None or len(encodings) > 1:
        raise UnsupportedEncoding(f"Content-Encoding {ascii(', '.join(encodings))[:100]} is not supported")
    # Some clients leave zlib's header out, which RFC 9110 section 8.4.1.2 mentions.
    if bits == _ZLIB and not _has_zlib_header(body):
        bits = _RAW
    try:
        return _decompress(body, bits, request.site.limits.max_body_size)
    except zlib.error:
        raise BadRequest(f"the body is not {encodings[0]}, as its Content-Encoding says") from None


def _has_zlib_header(body: bytes) -> bool:
    # RFC 1950 section 2.2: the method is 8, and the two bytes are a multiple of 31.
    return len(body) >= 2 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0


def _decompress(body: bytes, bits: int, max_size: int) -> bytes:
    """Decompress a body of one member, or, with gzip, of up to ``_MAX_MEMBERS``.

    :raises zlib.error: the body is damaged, or ends too early, or something follows it
    """
    parts: list[bytes] = []
    left = max_size
    for _ in range(_MAX_MEMBERS if bits == _GZIP else 1):
        member = zlib.decompressobj(bits)
        parts.append(member.decompress(body, left + 1))
        left -= len(parts[-1])
        if left < 0:
            raise BodyTooLarge(f"the decompressed body is larger than {max_size} bytes")
        body = member.unused_data
        if not member.eof:
            break
        if not body:
            return b"".join(parts)
    raise zlib.error
