"""Compressed bodies of requests."""

from __future__ import annotations

import threading
import zlib

from ..errors import InvalidArgument

#: zlib's name for "gzip, with the largest window".
_GZIP = 16 + zlib.MAX_WBITS
#: One body at a time: a few KiB become the largest request, and many at once would take the memory of all.
_ALONE = threading.Lock()


def inflated(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Returns the body as it was before its sender compressed it; a body that is not gzip stays as it is.

    Args:
        body: the bytes that arrived.
        encoding: value of the header `Content-Encoding`.
        max_bytes: the most bytes that the inflated body may have.

    Raises:
        InvalidArgument: the body is no gzip, breaks off, or has more than `max_bytes` once it is inflated.
    """
    if encoding.strip().lower() != "gzip":
        return body
    with _ALONE:
        return _inflate(body, max_bytes)


def _inflate(body: bytes, max_bytes: int) -> bytes:
    members, left = [], max_bytes
    while body:
        stream = zlib.decompressobj(_GZIP)
        try:
            members.append(stream.decompress(body, left + 1))
        except zlib.error as exc:
            raise InvalidArgument(f"The request's Content-Encoding is gzip, but its body is not: {exc}") from exc
        left -= len(members[-1])
        if left < 0:
            raise InvalidArgument(f"The request is larger than {max_bytes} bytes once it is inflated.")
        if not stream.eof:
            raise InvalidArgument("The request's Content-Encoding is gzip, but its body breaks off.")
        body = stream.unused_data
    return b"".join(members)
