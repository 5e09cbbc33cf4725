"""A client for image feature services on TensorFlow Serving. Needs no TensorFlow.

What is named here, `interceptors` and `integrations` are public; the other modules may change at any time.
"""

import importlib as _importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from .async_client import AsyncFeatureClient
    from .client import FeatureClient
    from .config import TLS, Keepalive, Limits, RetryPolicy
    from .core.classification import ClassScore
    from .core.stream import Extracted
    from .exceptions import (
        ConfigError,
        ConnectError,
        DeadlineExceeded,
        FeatserveError,
        InvalidImageError,
        InvalidRequest,
        MessageTooLarge,
        MissingExtraError,
        ModelNotFound,
        OutputError,
        ResponseError,
        ServerError,
        ServerOverloaded,
        TransportError,
    )
    from .model.metadata import ModelMetadata, Signature, TensorSpec, VersionStatus

__all__ = [
    "AsyncFeatureClient",
    "ClassScore",
    "ConfigError",
    "ConnectError",
    "DeadlineExceeded",
    "Extracted",
    "FeatserveError",
    "FeatureClient",
    "InvalidImageError",
    "InvalidRequest",
    "Keepalive",
    "Limits",
    "MessageTooLarge",
    "MissingExtraError",
    "ModelMetadata",
    "ModelNotFound",
    "OutputError",
    "ResponseError",
    "RetryPolicy",
    "ServerError",
    "ServerOverloaded",
    "Signature",
    "TLS",
    "TensorSpec",
    "TransportError",
    "VersionStatus",
]

_MODULES = {
    "AsyncFeatureClient": "async_client",
    "ClassScore": "core.classification",
    "ConfigError": "exceptions",
    "ConnectError": "exceptions",
    "DeadlineExceeded": "exceptions",
    "Extracted": "core.stream",
    "FeatserveError": "exceptions",
    "FeatureClient": "client",
    "InvalidImageError": "exceptions",
    "InvalidRequest": "exceptions",
    "Keepalive": "config",
    "Limits": "config",
    "MessageTooLarge": "exceptions",
    "MissingExtraError": "exceptions",
    "ModelMetadata": "model.metadata",
    "ModelNotFound": "exceptions",
    "OutputError": "exceptions",
    "ResponseError": "exceptions",
    "RetryPolicy": "config",
    "ServerError": "exceptions",
    "ServerOverloaded": "exceptions",
    "Signature": "model.metadata",
    "TLS": "config",
    "TensorSpec": "model.metadata",
    "TransportError": "exceptions",
    "VersionStatus": "model.metadata",
}


def __getattr__(name: str) -> _Any:
    if name == "__version__":
        return _importlib.import_module("importlib.metadata").version("featserve")
    # The command sets what gRPC reads once, so nothing is imported before it is used.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_importlib.import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
