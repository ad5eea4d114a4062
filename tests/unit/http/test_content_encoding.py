"""Content-Encoding of requests."""

from __future__ import annotations

import gzip
import time
import zlib
from typing import Any

import pytest
from attrs import frozen
from twisted.web.http_headers import Headers

from junebug_turn.errors import BadRequest, BodyTooLarge, UnsupportedEncoding
from junebug_turn.http.content_encoding import decode
from junebug_turn.http.options import LimitOptions

BODY = b'{"to": "+27123"}'


@frozen
class Site:
    limits: LimitOptions


class Request:
    """A request with Content-Encoding headers, to a site with ``max_body_size``."""

    def __init__(self, encodings: tuple[str, ...], most: int) -> None:
        self.requestHeaders = Headers({"Content-Encoding": encodings})
        self.site = Site(LimitOptions(max_body_size=most))


def decoded(body: bytes, *encodings: str, most: int = 1000) -> bytes:
    return decode(Request(encodings, most), body)


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


# Without a time in the gzip header: the names of the tests must be the same in every process.
@pytest.mark.parametrize(
    ("encodings", "body"),
    [
        ((), BODY),
        (("identity",), BODY),
        (("gzip",), gzip.compress(BODY, mtime=0)),
        (("GZip",), gzip.compress(BODY, mtime=0)),
        (("x-gzip",), gzip.compress(BODY, mtime=0)),
        (("identity, gzip",), gzip.compress(BODY, mtime=0)),
        (("gzip",), gzip.compress(BODY[:5], mtime=0) + gzip.compress(BODY[5:], mtime=0)),
        (("deflate",), zlib.compress(BODY)),
        (("deflate",), raw_deflate(BODY)),
    ],
)
def test_read(encodings: tuple[str, ...], body: bytes) -> None:
    """gzip and deflate are read; deflate with and without zlib's header, which clients differ in."""
    assert decoded(body, *encodings) == BODY


@pytest.mark.parametrize("encodings", [("br",), ("zstd",), ("compress",), ("gzip, br",), ("gzip", "gzip")])
def test_refused(encodings: tuple[str, ...]) -> None:
    """Others are refused with an error that names the encoding, and so are several."""
    name = ascii(", ".join(encodings))
    with pytest.raises(UnsupportedEncoding) as raised:
        decoded(BODY, *encodings)
    assert str(raised.value) == f"Content-Encoding {name} is not supported"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: b"",
        lambda data: BODY,
        lambda data: data[:-5] + bytes([data[-5] ^ 1]) + data[-4:],
    ],
)
def test_damaged(encoding: str, spoil: Any) -> None:
    """A body that doesn't have its encoding, ends too early, or goes on after its end, is a bad request."""
    data = gzip.compress(BODY, mtime=0) if encoding == "gzip" else zlib.compress(BODY)
    with pytest.raises(BadRequest, match=f"the body is not {encoding}"):
        decoded(spoil(data), encoding)


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_size(compress: Any) -> None:
    """The size limit holds for the decompressed body too."""
    encoding = "gzip" if compress is gzip.compress else "deflate"
    assert len(decoded(compress(b"x" * 1000), encoding)) == 1000
    with pytest.raises(BodyTooLarge, match="larger than 1000 bytes"):
        decoded(compress(b"x" * 1001), encoding)


def test_hostile() -> None:
    """A body that was made to be large, or slow to read, is refused at once, and takes no memory."""
    bomb = gzip.compress(bytes(50_000_000))
    start = time.perf_counter()
    with pytest.raises(BodyTooLarge):
        decoded(bomb, "gzip", most=1_000_000)
    with pytest.raises(BadRequest):
        decoded(gzip.compress(b"") * 50_000, "gzip", most=1_000_000)
    assert time.perf_counter() - start < 0.5
