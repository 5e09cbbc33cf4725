"""The HTTP server: its port, how many connections there may be, and how long each may take to bring a request."""

from __future__ import annotations

import asyncio
import enum
import ssl
import threading
from collections.abc import Sequence

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..net.sockets import listen_all, max_connections

#: Seconds from the first byte of a request to the end of its headers.
HEADER_TIMEOUT_S = 10.0
#: Seconds that a connection may be silent. Longer than proxies and pools keep theirs (Google's balancer: 600 s), or one
#: of their requests meets the moment at which this side closes, and a POST is not sent again.
IDLE_TIMEOUT_S = 620.0
#: The most bytes that the head of a request may have.
_MAX_HEAD_BYTES = 64 << 10


class _Phase(enum.Enum):
    """The phase of a connection: it is idle, brings the head of a request, or waits for an answer."""

    IDLE = enum.auto()
    HEAD = enum.auto()
    ANSWER = enum.auto()


class Connection(HttpToolsProtocol):
    """uvicorn's connection, with bounds on the time and the bytes that it may take to bring a request.

    uvicorn waits for ever: a thousand silent callers would take all the process's descriptors, gRPC's included. A new
    connection over the limit takes the place of the connection that has been idle longest.
    """

    idle_since: float | None = None
    _phase: _Phase | None = None
    _timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_body = False
    _half_closed = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # noqa: D102
        super().connection_made(transport)
        if len(self.connections) > max_connections():
            self._make_room()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        super().connection_lost(exc)
        self._stop_watching()

    def data_received(self, data: bytes) -> None:  # noqa: D102
        if not self._in_body:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The head of a request has more than {_MAX_HEAD_BYTES} bytes.")
        self._watch()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Returns whether the connection stays open: a caller that has said all may still listen for its answer."""
        self._half_closed = self._answering and not self._in_body and self.scheme == "http"
        return self._half_closed

    def on_headers_complete(self) -> None:  # noqa: D102
        self._head_bytes, self._in_body = 0, True
        super().on_headers_complete()
        if self.parser.get_http_version() == "1.0" and self.parser.should_keep_alive():
            # A caller of HTTP/1.0 may ask to keep its connection, and is told that it may.
            self.cycle.keep_alive = True
            self.cycle.default_headers = [*self.cycle.default_headers, (b"connection", b"keep-alive")]

    def on_message_complete(self) -> None:  # noqa: D102
        super().on_message_complete()
        self._in_body = False

    def on_response_complete(self) -> None:  # noqa: D102
        super().on_response_complete()
        if self._half_closed and not self._answering:
            self.transport.close()
        self._watch()

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _make_room(self) -> None:
        """Closes the connection that has been idle longest, those without any request first, or else this one."""
        others: Sequence[Connection] = [each for each in self.connections if isinstance(each, Connection)]
        others = [each for each in others if not each.transport.is_closing()]
        if len(others) <= max_connections():
            return
        idle = [each for each in others if each.idle_since is not None]
        longest = min(idle, key=lambda each: (each.cycle is not None, each.idle_since), default=self)
        longest.transport.abort()

    def _watch(self) -> None:
        phase = _Phase.ANSWER if self._answering else _Phase.HEAD if self._head_bytes else _Phase.IDLE
        if phase is self._phase or self.transport.is_closing():
            return
        self._stop_watching()
        self._phase = phase
        self.idle_since = self.loop.time() if phase is _Phase.IDLE else None
        if phase is not _Phase.ANSWER:
            seconds = IDLE_TIMEOUT_S if phase is _Phase.IDLE else HEADER_TIMEOUT_S
            self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class HttpServer:
    """Serves an application from a thread of its own.

    Args:
        app: the application.
        address: `HOST:PORT`; port 0 means any free one.
        tls: certificate and key, or `None` for plain HTTP.

    Raises:
        SetupError: the port cannot be had.
    """

    def __init__(self, app: Starlette, address: str, tls: ssl.SSLContext | None) -> None:
        self._sockets = listen_all(address, "REST")
        self.port: int = self._sockets[0].getsockname()[1]
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=round(IDLE_TIMEOUT_S),
        )
        config.load()
        config.ssl = tls  # uvicorn's own parameters are paths, and the certificate is on no disk
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=(self._sockets,), name="featserve-rest", daemon=True
        )

    def start(self) -> None:
        """Begins to accept requests."""
        self._thread.start()

    def stop(self, grace_s: float) -> None:
        """Stops, and lets the running requests end for so many seconds."""
        self._server.config.timeout_graceful_shutdown = max(1, round(grace_s))
        self._server.should_exit = True
        self._thread.join()
        for each in self._sockets:
            each.close()
