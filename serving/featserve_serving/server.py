"""The life of the embedded server: its parts, and the order in which they start and stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from .core.admission import Pools
from .core.handlers import Handlers
from .errors import SetupError
from .grpc_api.health import Health
from .grpc_api.server import GrpcServer
from .models.config.source import ModelSource
from .models.config.watcher import ConfigWatcher
from .models.manager import ModelManager
from .net.sockets import is_local, listen_all
from .net.tls import read_ssl_config, ssl_context
from .options import ServerOptions
from .protos import text_files
from .protos.config_pb2 import MonitoringConfig
from .rest_api.app import RestApi
from .rest_api.console import Console
from .rest_api.http_server import HttpServer
from .telemetry.metrics import Metrics
from .telemetry.recorder import Recorder
from .telemetry.tracing import create_tracer

_METRICS_PATH = "/monitoring/prometheus/metrics"


class Server:
    """A model server: gRPC, and REST if it has an address.

    Args:
        source: where the model set comes from.
        options: how requests are taken, and models loaded.
        on_load: called with a model, a version and the seconds that it took, after each load.

    Raises:
        SetupError: a configuration file is malformed.
    """

    def __init__(
        self,
        source: ModelSource,
        options: ServerOptions,
        on_load: Callable[[str, int, float], None] = lambda *_: None,
    ) -> None:
        self._options = options
        self._manager = ModelManager(options.models, on_change=lambda: self._health.update(), on_load=on_load)
        self._config = ConfigWatcher(source, self._manager, options.config_poll_interval_s)
        self._ssl_config = read_ssl_config(options.ssl_config_file) if options.ssl_config_file else None
        self._health = Health(self._manager.catalog.available)
        self._pools = Pools(options.max_threads, options.max_queued_requests)
        metrics = Metrics(self._pools.compute, known_models=lambda: self._manager.catalog.available().keys())
        metrics.add_models(self._manager.catalog.every_state)
        metrics.add_batches(self._manager.catalog.executed_batches)
        self._tracer = create_tracer()
        recorder = Recorder(metrics, self._tracer)
        handlers = Handlers(self._manager, reloadable=options.enable_reload_rpc or is_local(options.address))
        self._grpc = GrpcServer(handlers, recorder, metrics, self._pools, self._health, options, self._ssl_config)
        metrics_path = _read_metrics_path(options.monitoring_config_file)
        console = None
        if options.enable_console and options.rest_address is not None:
            console = Console(
                handlers,
                recorder,
                metrics,
                self._pools,
                options,
                metrics_on=metrics_path is not None,
                ports=lambda: (self.port, self.rest_port),
                mutual_tls=self._ssl_config.client_verify if self._ssl_config else None,
            )
        self._rest = RestApi(handlers, recorder, metrics, self._pools, options, metrics_path, console)
        self._http: HttpServer | None = None

    @property
    def port(self) -> int:
        """The gRPC port, chosen by the system where 0 was asked for; 0 where there is a socket alone."""
        return self._grpc.port

    @property
    def rest_port(self) -> int | None:
        """The REST port, or `None` where there is no REST."""
        return self._http.port if self._http else None

    def models(self) -> dict[str, list[int]]:
        """Returns the available versions of each model, newest first."""
        return self._manager.catalog.available()

    def start(self) -> None:
        """Opens the ports, then loads the models side by side; each serves as soon as it is loaded.

        Until all of them are there, health says NOT_SERVING of the server, and calls for a model that is still being
        loaded are answered with UNAVAILABLE, which clients try again.

        Raises:
            SetupError: a model cannot be loaded, or a port cannot be had.
        """
        self._health.update()
        try:
            self._open()
            self._config.start()
            self._health.loaded()
        except BaseException:
            self.stop(0)
            raise

    def stop(self, grace_s: float | None = None) -> None:
        """Says NOT_SERVING, lets the running calls end, then unloads the models.

        Args:
            grace_s: seconds that running calls may still take; `None` means the option `stop_grace_s`.
        """
        end = time.monotonic() + (self._options.stop_grace_s if grace_s is None else grace_s)
        self._config.stop()
        self._health.drain()
        self._rest.drain()
        self._grpc.stop(end)
        if self._http:
            self._http.stop(max(0.0, end - time.monotonic()))
        self._config.join()
        self._pools.shutdown()
        self._manager.stop()
        self._health.close()
        self._tracer.close()

    @staticmethod
    def catch_signals() -> threading.Event:
        """Returns the event that SIGTERM or SIGINT sets from now on. Call it from the main thread."""
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

    def _open(self) -> None:
        self._check_addresses()
        self._grpc.start()
        if self._options.rest_address is not None:
            tls = None
            if self._ssl_config is not None:
                tls = ssl_context(self._ssl_config, str(self._options.ssl_config_file))
            self._http = HttpServer(self._rest.app(), self._options.rest_address, tls)
            self._http.start()

    def _check_addresses(self) -> None:
        """Tries the ports: gRPC itself would not say why one cannot be had."""
        addresses = {"gRPC": self._options.address, "REST": self._options.rest_address}
        for protocol, address in addresses.items():
            if address is not None:
                for listener in listen_all(address, protocol):
                    listener.close()


def _read_metrics_path(path: Path | None) -> str | None:
    if path is None:
        return _METRICS_PATH
    config = text_files.read(path, MonitoringConfig()).prometheus_config
    if config.path and not config.path.startswith("/"):
        raise SetupError(f"{path}: prometheus_config.path: expected a path from /, received {config.path!r}")
    return (config.path or _METRICS_PATH) if config.enable else None
