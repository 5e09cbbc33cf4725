"""A client for image feature services on TensorFlow Serving. Needs no TensorFlow."""

from ._aio import AsyncFeatureClient
from ._client import FeatureClient
from ._config import TLS, Keepalive, Limits, RetryPolicy
from ._exceptions import (
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
from ._plans import VersionStatus
from ._signatures import ModelMetadata, Signature, TensorSpec
from ._stream import Extracted

__all__ = [
    "AsyncFeatureClient",
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
