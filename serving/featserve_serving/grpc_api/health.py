"""Health as grpc.health.v1: of the server as a whole, of its services, and of each model by its name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any

from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from .services import MODEL_SERVICE, PREDICTION_SERVICE

SERVICE = health.SERVICE_NAME
#: The names under which TensorFlow Serving itself answers health checks, and those that the protocol recommends.
_NAMES = ("", "ModelService", "PredictionService", MODEL_SERVICE, PREDICTION_SERVICE)
_STATES = health_pb2.HealthCheckResponse


class Health:
    """Says SERVING of a model that has an available version, and of the server once the first models were loaded.

    Args:
        available: gives the available versions of each model.
    """

    def __init__(self, available: Callable[[], Mapping[str, Sequence[int]]]) -> None:
        self._available = available
        self._threads = futures.ThreadPoolExecutor(2, "featserve-health")
        self._servicer = health.HealthServicer(experimental_non_blocking=True, experimental_thread_pool=self._threads)
        self._lock = threading.Lock()
        self._loaded = False
        self._draining = False

    def add_to(self, server: Any) -> None:
        """Lets a gRPC server answer health checks."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    def update(self) -> None:
        """Looks at the models again."""
        with self._lock:  # or an older state could be written after a newer one
            serving = {name: bool(versions) for name, versions in self._available().items()}
            states = {**serving, **dict.fromkeys(_NAMES, self._loaded and any(serving.values()))}
            for name, healthy in states.items():
                self._servicer.set(name, _STATES.SERVING if healthy and not self._draining else _STATES.NOT_SERVING)

    def loaded(self) -> None:
        """Notes that the first models were loaded, as far as they can be."""
        self._loaded = True
        self.update()

    def drain(self) -> None:
        """Says NOT_SERVING from now on."""
        self._draining = True
        self.update()

    def close(self) -> None:
        """Lets the threads end."""
        self._threads.shutdown(wait=False)
