"""Ports and lifecycle."""

from __future__ import annotations

import logging
import signal
import threading
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2  # noqa: F401  (reflection describes them)

from . import _errors, _models_config
from ._handlers import Handlers
from ._interceptors import StatusInterceptor
from ._manager import ManagerOptions, ModelManager
from ._servicers import MODEL_SERVICE, PREDICTION_SERVICE, ModelServicer, PredictionServicer, method_handlers

_LOGGER = logging.getLogger(__name__)
#: The names under which TensorFlow Serving itself answers health checks.
_HEALTH_SERVICES = ("", "ModelService", "PredictionService", MODEL_SERVICE, PREDICTION_SERVICE)


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How requests are taken."""

    address: str = "127.0.0.1:0"
    rest_address: str | None = None
    max_threads: int = 32
    max_message_bytes: int = 256 << 20
    enable_reload_rpc: bool = False
    tensor_content_responses: bool = False
    manager: ManagerOptions = field(default_factory=ManagerOptions)


class Server:
    """A model server: gRPC, and REST if it has an address.

    Args:
        config: the `ModelServerConfig` to begin with.
        options: how requests are taken.
    """

    def __init__(self, config: Any, options: ServerOptions) -> None:
        self._config = config
        self._options = options
        self._health = health.HealthServicer(
            experimental_non_blocking=True, experimental_thread_pool=futures.ThreadPoolExecutor(2)
        )
        self._draining = False
        self._manager = ModelManager(options.manager, on_change=self._report_health)
        self._handlers = Handlers(self._manager, reloadable=options.enable_reload_rpc or _is_loopback(options.address))
        self._grpc_server: Any = None
        self._port = 0

    @property
    def port(self) -> int:
        """The gRPC port, chosen by the system where 0 was asked for."""
        return self._port

    @property
    def rest_port(self) -> int | None:
        """The REST port, or `None` where there is no REST."""
        return None

    def start(self) -> None:
        """Load the models, then open the port: an open port means that the models are there.

        Raises:
            SetupError: a model cannot be loaded, or a port cannot be had.
        """
        self._report_health()
        self._manager.start(self._config)
        try:
            self._open_grpc()
        except BaseException:
            self._manager.stop()
            raise

    def stop(self, grace_s: float = 10.0) -> None:
        """Say NOT_SERVING, let the running calls end, then unload.

        Args:
            grace_s: seconds that running calls may still take.
        """
        self._draining = True
        self._report_health()
        if self._grpc_server is not None:
            self._grpc_server.stop(grace_s).wait()
            self._grpc_server = None
            self._manager.stop()

    def wait(self) -> None:
        """Block until SIGTERM or SIGINT asks to stop. Call it from the main thread."""
        asked = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: asked.set())
        asked.wait()

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

    def _open_grpc(self) -> None:
        server = grpc.server(
            futures.ThreadPoolExecutor(self._options.max_threads, thread_name_prefix="featserve-rpc"),
            interceptors=(StatusInterceptor(),),
            options=(
                ("grpc.max_receive_message_length", self._options.max_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
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
        try:
            self._port = server.add_insecure_port(self._options.address)
        except RuntimeError:
            self._port = 0
        if not self._port:
            raise _errors.SetupError(
                f"cannot listen on {self._options.address}: the port is in use, or below 1024 without the right to it; "
                "choose another, or 0 for any free one"
            )
        server.start()
        self._grpc_server = server

    def _report_health(self) -> None:
        serving = {name: bool(versions) for name, versions in self._manager.available().items()}
        states = {**dict.fromkeys(_HEALTH_SERVICES, any(serving.values())), **serving}
        for name, healthy in states.items():
            good = healthy and not self._draining
            status = health_pb2.HealthCheckResponse.SERVING if good else health_pb2.HealthCheckResponse.NOT_SERVING
            self._health.set(name, status)


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
    given = [source for source in (model_root, model_base_path, model_config_file) if source is not None]
    if len(given) != 1:
        raise _errors.SetupError(
            f"give exactly one of model_root, model_base_path and model_config_file; received {len(given)}"
        )
    if model_root is not None:
        config = _models_config.from_model_root(Path(model_root))
    elif model_base_path is not None:
        config = _models_config.of_one_model(model_name, Path(model_base_path))
    else:
        config = _models_config.read(Path(str(model_config_file)))
    return Server(config, options)
