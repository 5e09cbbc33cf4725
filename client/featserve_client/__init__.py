"""A client for image feature services on TensorFlow Serving. Needs no TensorFlow.

What is here, in `interceptors` and in `integrations` is public; the other modules may change at any time.
"""

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
