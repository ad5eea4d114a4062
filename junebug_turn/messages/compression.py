"""Compressed bodies, of requests and of AMQP messages: gzip and deflate, within a size limit.

Tested by tests/unit/http/test_content_encoding.py and tests/integration/test_message_properties.py.
"""

from __future__ import annotations

import zlib

from junebug_turn.errors import BodyTooLarge, DamagedBody, UnsupportedEncoding

# zlib's window bits: 31 takes gzip, 15 zlib's own form, -15 the same without its header and checksum.
_GZIP, _ZLIB, _RAW = 31, 15, -15
# Each member of a gzip body copies what follows it.
_MAX_MEMBERS = 100
_ENCODINGS = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}


def decompress(body: bytes, encodings: str, field: str, max_size: int) -> bytes:
    """Return ``body`` without its encoding.

    :param encodings: the names of its encodings, with commas between them
    :param field: where they stand, for the errors
    :param max_size: the most that is decompressed, in bytes
    :raises UnsupportedEncoding: the encoding is another one than gzip and deflate, or there are several
    :raises BodyTooLarge: the decompressed body is larger than ``max_size``
    :raises DamagedBody: the body doesn't have its encoding
    """
    names = [name.strip().lower() for name in encodings.split(",")]
    names = [name for name in names if name not in ("", "identity")]
    if not names:
        return body
    bits = _ENCODINGS.get(names[0])
    if bits is None or len(names) > 1:
        raise UnsupportedEncoding(f"{field} {ascii(', '.join(names))[:100]} is not supported")
    # Some clients leave zlib's header out, which RFC 9110 section 8.4.1.2 mentions.
    if bits == _ZLIB and not _has_zlib_header(body):
        bits = _RAW
    try:
        return _decompress(body, bits, max_size)
    except zlib.error:
        raise DamagedBody(f"the body is not {names[0]}, as its {field} says") from None


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
