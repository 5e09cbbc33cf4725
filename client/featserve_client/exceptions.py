"""Every error the client raises.

FeatserveError
├── InvalidImageError      nothing was sent: unreadable, empty, not an image
├── TransportError         no usable answer
│   ├── ConnectError       the server is not there
│   ├── DeadlineExceeded   no answer in time
│   └── MessageTooLarge    over a message limit of client or server
├── ServerError            the server answered no
│   ├── ModelNotFound      no such model, version or label
│   ├── InvalidRequest     the model cannot take this: unknown layer or signature, wrong dtype or shape, broken image
│   └── ServerOverloaded   too many requests
├── ResponseError          the answer lacks an output, or its dtype or shape is wrong
├── OutputError            a result file cannot be written, or belongs to another extraction
├── ConfigError            an option's value makes no sense
└── MissingExtraError      a feature needs a package that is not installed
"""

from __future__ import annotations

import copy
from typing import TypeVar

import grpc

_Error = TypeVar("_Error", bound="FeatserveError")


class FeatserveError(Exception):
    """Base of every error the client raises.

    Example:
        >>> try:
        ...     client.extract("no.jpg")
        ... except FeatserveError as exc:
        ...     print(type(exc).__name__, exc, sep=": ")
        InvalidImageError: no.jpg: no such file
    """


def reworded(error: _Error, text: str) -> _Error:
    """Returns a copy of an error with another text, whose cause is the error."""
    told = copy.copy(error)
    told.args, told.__cause__ = (text,), error
    return told


class ConfigError(FeatserveError, ValueError):
    """An option has a value that cannot work."""


class MissingExtraError(FeatserveError, ImportError):
    """A feature needs a package of an extra that is not installed; the message has the command that installs it."""


class OutputError(FeatserveError):
    """A result file cannot be written, or holds the results of another extraction."""


class InvalidImageError(FeatserveError):
    """An input that is not a usable image; nothing was sent for it.

    Attributes:
        source: the path, or the position in the input as `image 3`.
    """

    def __init__(self, source: str, reason: str) -> None:
        """Names the input and what is wrong with it."""
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason

    def __reduce__(self) -> tuple[type[InvalidImageError], tuple[str, str]]:
        """Pickles by the two constructor arguments."""
        return type(self), (self.source, self.reason)


class _CallError(FeatserveError):
    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode | None = None,
        details: str = "",
        target: str = "",
        model: str = "",
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.details = details
        self.target = target
        self.model = model
        self.request_id = request_id

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), str(self), self.__dict__)


def _rebuild(kind: type[_CallError], message: str, fields: dict[str, object]) -> _CallError:
    error = kind(message)
    error.__dict__.update(fields)
    return error


class TransportError(_CallError):
    """No usable answer came back.

    Attributes:
        code: the `grpc.StatusCode`, if the error came from gRPC.
        details: the text that came with it.
        target: the server's address.
        model: the model that was asked.
        request_id: the id the call carried as `x-request-id`.
    """


class ConnectError(TransportError):
    """The server is not there, or went away (UNAVAILABLE)."""


class DeadlineExceeded(TransportError):
    """The answer did not come in time (DEADLINE_EXCEEDED)."""


class MessageTooLarge(TransportError):
    """A message is over a size limit; the text names the option to raise and both sizes."""


class ServerError(_CallError):
    """The server answered no.

    Attributes:
        code: the `grpc.StatusCode`.
        details: the server's own words, without the names of TensorFlow's nodes.
        target: the server's address.
        model: the model that was asked.
        request_id: the id the call carried as `x-request-id`.
    """


class ModelNotFound(ServerError):
    """The server has no such model, version or label (NOT_FOUND)."""


class InvalidRequest(ServerError):
    """The model cannot take the request (INVALID_ARGUMENT), or lacks the signature or layer asked for."""


class ServerOverloaded(ServerError):
    """The server has more requests than it takes (RESOURCE_EXHAUSTED)."""


class ResponseError(_CallError):
    """The answer lacks an output, or an output's dtype or shape is wrong."""
