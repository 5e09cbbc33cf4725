"""The errors of this package.

ServingError
├── SetupError            the server cannot start: bad flags, files, ports, models
└── RequestError          one request is refused; its text is meant for the caller
    ├── InvalidArgument
    ├── NotFound
    ├── FailedPrecondition
    ├── ResourceExhausted
    ├── Unavailable
    ├── Unimplemented
    ├── PermissionDenied
    ├── Aborted
    ├── OutOfRange
    ├── DeadlineExceeded
    └── Internal

Each kind of `RequestError` carries its canonical status (google/rpc/code.proto). gRPC answers with it as it is, REST by
its table of HTTP codes.
"""

from __future__ import annotations


class ServingError(Exception):
    """Base class of every error of this package."""


class SetupError(ServingError):
    """The server cannot start as asked; the text says what to change."""


class RequestError(ServingError):
    """A request is refused. The text goes to the caller as it is."""

    #: Name in `google.rpc.Code`; a subclass has its parent's unless it brings its own.
    status = "UNKNOWN"


class InvalidArgument(RequestError):
    """The request is malformed, whatever the server's state."""

    status = "INVALID_ARGUMENT"


class NotFound(RequestError):
    """The model, or the version, is not being served."""

    status = "NOT_FOUND"


class FailedPrecondition(RequestError):
    """The server's state does not allow the request."""

    status = "FAILED_PRECONDITION"


class ResourceExhausted(RequestError):
    """The server, or the request, is at a limit."""

    status = "RESOURCE_EXHAUSTED"


class Unavailable(RequestError):
    """The server cannot answer now; another try may succeed."""

    status = "UNAVAILABLE"


class Unimplemented(RequestError):
    """The server does not offer this."""

    status = "UNIMPLEMENTED"


class PermissionDenied(RequestError):
    """The caller may not do this."""

    status = "PERMISSION_DENIED"


class Aborted(RequestError):
    """The computation was given up."""

    status = "ABORTED"


class OutOfRange(RequestError):
    """The computation left its valid range."""

    status = "OUT_OF_RANGE"


class DeadlineExceeded(RequestError):
    """The answer would come too late."""

    status = "DEADLINE_EXCEEDED"


class Internal(RequestError):
    """The server failed. The text must not carry the server's insides."""

    status = "INTERNAL"
