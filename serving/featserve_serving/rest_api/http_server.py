"""The HTTP server: its port, how many connections there may be, and how long each may take to bring a request."""

from __future__ import annotations

import asyncio
import ssl
import threading

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..net.sockets import listen, max_connections

#: Seconds from the first moment of a connection, or the last answer on it, to the end of a request's headers.
HEADER_TIMEOUT_S = 10.0


class Connection(H11Protocol):
    """uvicorn's connection, closed when there are too many, or when it brings no request.

    uvicorn waits for ever: a thousand silent callers would take all the process's descriptors, gRPC's included.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # noqa: D102
        super().connection_made(transport)
        if len(self.connections) > max_connections():
            transport.abort()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        super().connection_lost(exc)
        self._stop_watching()

    def data_received(self, data: bytes) -> None:  # noqa: D102
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:  # noqa: D102
        super().on_response_complete()
        self._watch()

    def _watch(self) -> None:
        waiting = self.cycle is None or self.cycle.response_complete
        if not waiting:
            self._stop_watching()
        elif self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(HEADER_TIMEOUT_S, self.transport.abort)

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
        self._socket = listen(address, "REST")
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
        )
        config.load()
        config.ssl = tls  # uvicorn's own parameters are paths, and the certificate is on no disk
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="featserve-rest", daemon=True
        )

    def start(self) -> None:
        """Begins to accept requests."""
        self._thread.start()

    def stop(self, grace_s: float) -> None:
        """Stops, and lets the running requests end for so many seconds."""
        self._server.config.timeout_graceful_shutdown = max(1, round(grace_s))
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
