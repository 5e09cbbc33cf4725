"""Bodies of requests, within bounds of size, time and number."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

from .source import SourceError

#: Bytes of an image file at most; a larger one is the client's business.
MAX_BYTES = 32 << 20
#: Files in memory at once.
_MAX_UPLOADS = 8
#: Seconds that a file may take to arrive.
_TIMEOUT_S = 30.0


class Uploads:
    """Takes uploads: so many at once, the rest is sent away."""

    def __init__(self, max_bytes: int) -> None:
        """Takes files of at most `max_bytes`, or of `MAX_BYTES` if that is less."""
        self.max_bytes = min(MAX_BYTES, max_bytes)
        self._room = _MAX_UPLOADS

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """Holds the body of a request for the time of the work on it.

        Raises:
            SourceError: the body is empty or too large, does not arrive in time, or there are too many at once.
        """
        if not self._room:
            raise SourceError(f"the console works on {_MAX_UPLOADS} photos, and takes no more at once; try again", 429)
        self._room -= 1
        try:
            yield await self._read(request)
        finally:
            self._room += 1

    async def _read(self, request: Request) -> bytes:
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self.max_bytes:
            raise self._too_large()
        try:
            return await asyncio.wait_for(self._received(request), _TIMEOUT_S)
        except asyncio.TimeoutError as exc:
            raise SourceError(f"the photo did not arrive within {_TIMEOUT_S:g} s", 408) from exc
        except ClientDisconnect as exc:
            raise SourceError("the browser left before the photo had arrived", 400) from exc

    async def _received(self, request: Request) -> bytes:
        chunks, size = [], 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > self.max_bytes:
                raise self._too_large()
            chunks.append(chunk)
        if not size:
            raise SourceError("the file is empty (0 bytes)", 400)
        return b"".join(chunks)

    def _too_large(self) -> SourceError:
        return SourceError(
            f"the file is larger than {self.max_bytes / (1 << 20):g} MiB, the most that the console takes; "
            "`featserve extract` takes more",
            413,
        )
