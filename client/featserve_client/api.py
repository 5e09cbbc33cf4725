"""The names that `featserve_client` has."""

from importlib.metadata import version as _version

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

__version__ = _version("featserve")

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
