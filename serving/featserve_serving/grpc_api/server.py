"""The gRPC server: its port, its limits, and a stop that loses no call."""

from __future__ import annotations

import time
from typing import Any

import grpc

from ..core.admission import Pools
from ..core.handlers import Handlers
from ..errors import SetupError
from ..net.sockets import check_socket, max_connections, twin
from ..net.tls import credentials
from ..options import ServerOptions
from ..protos.config_pb2 import SSLConfig
from ..protos.generated import model_service_pb2, prediction_service_pb2  # noqa: F401  (reflection describes them)
from ..telemetry.metrics import Metrics
from ..telemetry.recorder import Recorder
from . import health, reflection
from .interceptor import CallInterceptor
from .services import MODEL_SERVICE, PREDICTION_SERVICE, ModelServicer, PredictionServicer, method_handlers

#: Calls of all kinds together: beyond it gRPC itself refuses, before any Python runs.
_SPARE_CALLS = 256
#: Calls at once on one connection: a client holds back what is over it.
_MAX_STREAMS = 512
#: Calls that wait to be accepted or refused; each may hold 64 KiB that its client was allowed to send.
_MAX_UNACCEPTED = 8192
#: Time that a connection may take to speak HTTP/2, TLS included.
_HANDSHAKE_TIMEOUT_MS = 10_000
#: A moment without a new call, and how long to wait for one before stopping regardless: callers on a busy machine take
#: seconds to learn that the server drains.
_QUIET_S, _MAX_QUIET_WAIT_S = 0.02, 10.0


class GrpcServer:
    """Serves the handlers over gRPC, beside health checks and reflection.

    Args:
        handlers: what the calls ask for.
        recorder: keeps the record of each call.
        metrics: counts bytes and refusals.
        pools: the threads of the calls.
        health: answers health checks.
        options: address, limits, and further arguments of gRPC.
        ssl_config: certificate and key, or `None` for plain HTTP/2.
    """

    def __init__(
        self,
        handlers: Handlers,
        recorder: Recorder,
        metrics: Metrics,
        pools: Pools,
        health: health.Health,
        options: ServerOptions,
        ssl_config: SSLConfig | None,
    ) -> None:
        self._pools = pools
        self._health = health
        self._options = options
        self._ssl_config = ssl_config
        self._servicers = (
            PredictionServicer(handlers, as_content=options.tensor_content_responses),
            ModelServicer(handlers),
        )
        by_method = {
            f"/{PREDICTION_SERVICE}/Predict": pools.compute,
            f"/{MODEL_SERVICE}/HandleReloadConfigRequest": pools.reload,
            f"/{reflection.SERVICE}/ServerReflectionInfo": pools.streams,
        }
        self._interceptor = CallInterceptor(recorder, metrics, by_method, pools.control)
        self._server: Any = None
        self.port = 0

    def start(self) -> None:
        """Opens the port.

        Raises:
            SetupError: the port cannot be had.
        """
        options = self._options
        server = grpc.server(
            self._pools.control,
            interceptors=(self._interceptor,),
            maximum_concurrent_rpcs=options.max_threads + options.max_queued_requests + _SPARE_CALLS,
            options=(
                ("grpc.max_receive_message_length", options.max_message_bytes),
                # As in configs/server.flags: the client pings while it waits, and gRPC's own limit is 300 s.
                ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
                ("grpc.max_send_message_length", -1),
                # By itself gRPC cancels calls at random once 1,000 wait to be accepted; no client retries CANCELLED.
                ("grpc.server.max_pending_requests", _MAX_UNACCEPTED),
                ("grpc.server.max_pending_requests_hard_limit", _MAX_UNACCEPTED),
                ("grpc.max_concurrent_streams", _MAX_STREAMS),
                ("grpc.max_allowed_incoming_connections", max_connections()),
                ("grpc.server_handshake_timeout_ms", _HANDSHAKE_TIMEOUT_MS),
                ("grpc.so_reuseport", 0),
                *options.grpc_arguments,
            ),
        )
        for servicer in self._servicers:
            handlers = method_handlers(servicer.methods())
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(servicer.name, handlers),))
        self._health.add_to(server)
        reflection.add_to(server, (PREDICTION_SERVICE, MODEL_SERVICE, health.SERVICE))
        self.port = self._listen(server)
        server.start()
        self._server = server

    def stop(self, end: float) -> None:
        """Stops without losing a call.

        gRPC cancels a call that arrives while the one before it is being accepted, if the server stops just then; and
        no client retries CANCELLED. So new work is first refused with UNAVAILABLE, which they do retry, until the
        running calls have ended and a quiet moment comes.

        Args:
            end: moment of `time.monotonic` after which running calls are cancelled.
        """
        if self._server is None:
            return
        self._interceptor.drain()
        while self._pools.compute.running and time.monotonic() < end:
            time.sleep(0.01)
        self._interceptor.wait_until_quiet(_QUIET_S, min(_MAX_QUIET_WAIT_S, max(0.0, end - time.monotonic())))
        self._server.stop(max(0.0, end - time.monotonic())).wait()
        self._server = None

    def _listen(self, server: Any) -> int:
        if self._options.socket_path is not None:
            self._add_port(server, check_socket(self._options.socket_path))
        if self._options.address is None:
            return 0
        port = self._add_port(server, self._options.address)
        if (other := twin(self._options.address, port)) is not None:
            self._add_port(server, other)
        return port

    def _add_port(self, server: Any, address: str) -> int:
        try:
            if self._ssl_config is None:
                port = server.add_insecure_port(address)
            else:
                port = server.add_secure_port(address, credentials(self._ssl_config))
        except RuntimeError:
            port = 0
        if not port:
            raise SetupError(f"cannot listen on {address} for gRPC; choose another port, or 0 for any free one")
        return int(port)
