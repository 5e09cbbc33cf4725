"""Ports and lifecycle."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2  # noqa: F401  (reflection describes them)

from .core.admission import BoundedPool
from .core.handlers import Handlers
from .errors import ServingError, SetupError
from .grpc_api.interceptor import CallInterceptor
from .grpc_api.services import MODEL_SERVICE, PREDICTION_SERVICE, ModelServicer, PredictionServicer, method_handlers
from .models import config_file
from .models.manager import ManagerOptions, ModelManager
from .net.sockets import listen, max_connections
from .net.tls import credentials, read_ssl_config, ssl_context
from .protos import text_files
from .protos.config_pb2 import MonitoringConfig
from .rest_api.app import RestApi, RestOptions, RestServer
from .telemetry.metrics import Metrics
from .telemetry.recorder import Recorder
from .telemetry.tracing import create_tracer

_LOGGER = logging.getLogger(__name__)
#: The names under which TensorFlow Serving itself answers health checks, and those that the protocol recommends.
_HEALTH_SERVICES = ("", "ModelService", "PredictionService", MODEL_SERVICE, PREDICTION_SERVICE)
_METRICS_PATH = "/monitoring/prometheus/metrics"
#: Calls of all kinds together: beyond it gRPC itself refuses, before any Python runs.
_SPARE_CALLS = 256
#: Calls at once on one connection: a client holds back what is over it.
_MAX_STREAMS = 512
#: Calls that wait to be accepted or refused; each may hold 64 KiB that its client was allowed to send.
_MAX_UNACCEPTED = 8192
#: Time that a connection may take to speak HTTP/2, TLS included.
_HANDSHAKE_TIMEOUT_MS = 10_000
#: A moment without a new call, and how long to wait for one before stopping regardless.
_QUIET_S, _MAX_QUIET_WAIT_S = 0.02, 2.0

ConfigSource = Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How requests are taken."""

    address: str = "127.0.0.1:0"
    rest_address: str | None = None
    ssl_config_file: Path | None = None
    monitoring_config_file: Path | None = None
    max_threads: int = 32
    max_queued_requests: int = 16
    max_message_bytes: int = 256 << 20
    grpc_arguments: tuple[tuple[str, str | int], ...] = ()
    rest_timeout_s: float = 30.0
    rest_cors: bool = False
    enable_reload_rpc: bool = False
    tensor_content_responses: bool = False
    config_poll_interval_s: float = 0.0
    manager: ManagerOptions = field(default_factory=ManagerOptions)


class Server:
    """A model server: gRPC, and REST if it has an address.

    Args:
        source: gives the `ModelServerConfig`, now and whenever it is polled.
        options: how requests are taken.
        each: serve the models that can be served; else the configuration holds as a whole or not at all.

    Raises:
        SetupError: a configuration file is malformed.
    """

    def __init__(self, source: ConfigSource, options: ServerOptions, *, each: bool = False) -> None:
        self._source = source
        self._each = each
        self._problems = ""
        self._options = options
        self._config = source()
        self._ssl = read_ssl_config(options.ssl_config_file) if options.ssl_config_file else None
        self._metrics_path = _read_metrics_path(options.monitoring_config_file)
        self._health = health.HealthServicer(
            experimental_non_blocking=True, experimental_thread_pool=futures.ThreadPoolExecutor(2)
        )
        self._draining = False
        self._reporting = threading.Lock()
        self._stopping = threading.Event()
        self._manager = ModelManager(options.manager, on_change=self._report_health)
        self._handlers = Handlers(self._manager, reloadable=options.enable_reload_rpc or _is_loopback(options.address))
        self._compute = BoundedPool(options.max_threads, options.max_queued_requests, "featserve-predict")
        self._control = BoundedPool(4, 64, "featserve-control")
        self._reload = BoundedPool(1, 4, "featserve-reload")
        self._streams = BoundedPool(2, 8, "featserve-streams")
        self._metrics = Metrics(self._compute, known_models=lambda: self._manager.available().keys())
        self._metrics.add_models(self._manager.every_state)
        self._metrics.add_batches(self._manager.executed_batches)
        self._tracer = create_tracer()
        self._recorder = Recorder(self._metrics, self._tracer)
        self._interceptor = self._create_interceptor()
        self._grpc_server: Any = None
        self._rest_api = self._create_rest_api()
        self._rest_server: RestServer | None = None
        self._watcher: threading.Thread | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """The gRPC port, chosen by the system where 0 was asked for."""
        return self._port

    @property
    def rest_port(self) -> int | None:
        """The REST port, or `None` where there is no REST."""
        return self._rest_server.port if self._rest_server else None

    def start(self) -> None:
        """Load the models, then open the ports: an open port means that the models are there.

        Raises:
            SetupError: a model cannot be loaded, or a port cannot be had.
        """
        self._report_health()
        self._check_addresses()
        try:
            self._problems = self._report(self._manager.start(self._config, each=self._each))
            self._open_grpc()
            if self._options.rest_address is not None:
                self._open_rest(self._options.rest_address)
        except BaseException:
            self.stop(0)
            raise
        if self._options.config_poll_interval_s > 0:
            self._watcher = threading.Thread(target=self._watch_config, name="featserve-config", daemon=True)
            self._watcher.start()

    def stop(self, grace_s: float = 10.0) -> None:
        """Say NOT_SERVING, let the running calls end, then unload.

        Args:
            grace_s: seconds that running calls may still take.
        """
        self._draining = True
        self._report_health()
        self._stopping.set()
        end = time.monotonic() + grace_s
        self._rest_api.drain()
        if self._grpc_server:
            self._drain_grpc(end)
        if self._rest_server:
            self._rest_server.stop(max(0.0, end - time.monotonic()))
        if self._watcher:
            self._watcher.join()
        for pool in (self._compute, self._control, self._reload, self._streams):
            pool.shutdown(wait=False, cancel_futures=True)
        self._manager.stop()
        self._tracer.close()

    def _drain_grpc(self, end: float) -> None:
        """Stop gRPC without losing a call.

        gRPC cancels a call that arrives while the one before it is being accepted, if the server stops just then; and
        no client retries CANCELLED. So new work is first refused with UNAVAILABLE, which they do retry, until the
        running calls have ended and a quiet moment comes.
        """
        self._interceptor.drain()
        while self._compute.running and time.monotonic() < end:
            time.sleep(0.01)
        self._interceptor.wait_until_quiet(_QUIET_S, min(_MAX_QUIET_WAIT_S, max(0.0, end - time.monotonic())))
        self._grpc_server.stop(max(0.0, end - time.monotonic())).wait()
        self._grpc_server = None

    @staticmethod
    def catch_signals() -> threading.Event:
        """Return the event that SIGTERM or SIGINT sets from now on. Call it from the main thread."""
        asked = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: asked.set())
        return asked

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def models(self) -> dict[str, list[int]]:
        """Return the available versions of each model, newest first."""
        return self._manager.available()

    def _check_addresses(self) -> None:
        """Find out before minutes of loading, and gRPC itself would not say why."""
        listen(self._options.address, "gRPC").close()
        if self._options.rest_address is not None:
            listen(self._options.rest_address, "REST").close()

    def _open_grpc(self) -> None:
        server = grpc.server(
            self._control,
            interceptors=(self._interceptor,),
            maximum_concurrent_rpcs=self._options.max_threads + self._options.max_queued_requests + _SPARE_CALLS,
            options=(
                ("grpc.max_receive_message_length", self._options.max_message_bytes),
                ("grpc.max_send_message_length", -1),
                # By itself gRPC cancels calls at random once 1,000 wait to be accepted; no client retries CANCELLED.
                ("grpc.server.max_pending_requests", _MAX_UNACCEPTED),
                ("grpc.server.max_pending_requests_hard_limit", _MAX_UNACCEPTED),
                ("grpc.max_concurrent_streams", _MAX_STREAMS),
                ("grpc.max_allowed_incoming_connections", max_connections()),
                ("grpc.server_handshake_timeout_ms", _HANDSHAKE_TIMEOUT_MS),
                ("grpc.so_reuseport", 0),
                *self._options.grpc_arguments,
            ),
        )
        services = {
            PREDICTION_SERVICE: PredictionServicer(
                self._handlers, as_content=self._options.tensor_content_responses
            ).methods(),
            MODEL_SERVICE: ModelServicer(self._handlers).methods(),
        }
        for name, methods in services.items():
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, method_handlers(methods)),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((*services, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        self._port = _listen(server, self._options.address, self._ssl)
        server.start()
        self._grpc_server = server

    def _create_interceptor(self) -> CallInterceptor:
        pools = {
            f"/{PREDICTION_SERVICE}/Predict": self._compute,
            f"/{MODEL_SERVICE}/HandleReloadConfigRequest": self._reload,
            f"/{reflection.SERVICE_NAME}/ServerReflectionInfo": self._streams,
        }
        return CallInterceptor(self._recorder, self._metrics, pools, self._control)

    def _create_rest_api(self) -> RestApi:
        options = RestOptions(
            max_body_bytes=self._options.max_message_bytes,
            timeout_s=self._options.rest_timeout_s,
            metrics_path=self._metrics_path,
            cors=self._options.rest_cors,
        )
        return RestApi(self._handlers, self._recorder, self._metrics, (self._compute, self._control), options)

    def _open_rest(self, address: str) -> None:
        tls = ssl_context(self._ssl, str(self._options.ssl_config_file)) if self._ssl else None
        self._rest_server = RestServer(self._rest_api.app(), address, tls)
        self._rest_server.start()

    def _watch_config(self) -> None:
        """Apply the configuration whenever its source has changed, until it could be applied."""
        while not self._stopping.wait(self._options.config_poll_interval_s):
            try:
                config = self._source()
                if config != self._config or self._problems:
                    self._problems = self._report(self._apply(config))
            except ServingError as exc:
                self._problems = self._report([f"the new configuration is not applied: {exc}"])
            except Exception:
                _LOGGER.exception("the new configuration is not applied")

    def _report(self, problems: list[str]) -> str:
        """Log what is wrong with the configuration, once."""
        text = "; ".join(problems)
        if text and text != self._problems:
            _LOGGER.error("%s", text)
        return text

    def _apply(self, config: Any) -> list[str]:
        problems: list[str] = []
        if self._each:
            problems = self._manager.apply_each(config)
        else:
            self._manager.apply(config)
        self._config = config
        return problems

    def _report_health(self) -> None:
        with self._reporting:  # or an older state could be written after a newer one
            serving = {name: bool(versions) for name, versions in self._manager.available().items()}
            states = {**serving, **dict.fromkeys(_HEALTH_SERVICES, any(serving.values()))}
            for name, healthy in states.items():
                good = healthy and not self._draining
                kinds = health_pb2.HealthCheckResponse
                self._health.set(name, kinds.SERVING if good else kinds.NOT_SERVING)


def _listen(server: Any, address: str, ssl_config: Any) -> int:
    try:
        if ssl_config is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials(ssl_config))
    except RuntimeError:
        port = 0
    if not port:
        raise SetupError(f"cannot listen on {address} for gRPC; choose another port, or 0 for any free one")
    return int(port)


def _read_metrics_path(path: Path | None) -> str | None:
    if path is None:
        return _METRICS_PATH
    config = text_files.read(path, MonitoringConfig()).prometheus_config
    if config.path and not config.path.startswith("/"):
        raise SetupError(f"{path}: prometheus_config.path: expected a path from /, received {config.path!r}")
    return (config.path or _METRICS_PATH) if config.enable else None


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.")


def create_server(
    *,
    model_root: str | Path | None = None,
    model_base_path: str | Path | None = None,
    model_name: str = "default",
    model_config_file: str | Path | None = None,
    options: ServerOptions,
) -> Server:
    """Return a server of one of: a model root, one model, a model configuration file."""
    given = [path for path in (model_root, model_base_path, model_config_file) if path is not None]
    if len(given) != 1:
        raise SetupError(
            f"give exactly one of model_root, model_base_path and model_config_file; received {len(given)}"
        )
    path = Path(given[0])
    if model_root is not None:
        return Server(lambda: config_file.from_model_root(path), options, each=True)
    if model_base_path is not None:
        return Server(lambda: config_file.of_one_model(model_name, path), options)
    return Server(lambda: config_file.read(path), options)
