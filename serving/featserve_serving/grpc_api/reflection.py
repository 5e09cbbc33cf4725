"""Reflection: which services there are, for tools such as grpcurl."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha import reflection

SERVICE = reflection.SERVICE_NAME


def add_to(server: Any, services: Iterable[str]) -> None:
    """Lets a gRPC server describe these services, named in full, and itself."""
    reflection.enable_server_reflection((*services, SERVICE), server, pool=_Pool(descriptor_pool.Default()))


class _Pool:
    """A descriptor pool that finds methods too, such as `tensorflow.serving.PredictionService.Predict`.

    The pool of protobuf finds every symbol but these, and the protocol of reflection names them among the symbols.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> Any:  # noqa: N802
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service_name, _, method = symbol.rpartition(".")
            service = self._pool.FindServiceByName(service_name)
            if method not in service.methods_by_name:
                raise
            return service.file
