"""What can go wrong, as types.

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

The protocols map these to their own codes, each in one table.
"""

from __future__ import annotations


class ServingError(Exception):
    """Base class of every error of this package."""


class SetupError(ServingError):
    """The server cannot start as asked; the text says what to change."""


class RequestError(ServingError):
    """A request is refused. The text goes to the caller as it is."""


class InvalidArgument(RequestError):
    """The request is malformed, whatever the server's state."""


class NotFound(RequestError):
    """The model, or the version, is not being served."""


class FailedPrecondition(RequestError):
    """The server's state does not allow the request."""


class ResourceExhausted(RequestError):
    """The server, or the request, is at a limit."""


class Unavailable(RequestError):
    """The server cannot answer now; another try may succeed."""


class Unimplemented(RequestError):
    """The server does not offer this."""


class PermissionDenied(RequestError):
    """The caller may not do this."""


class Aborted(RequestError):
    """The computation was given up."""


class OutOfRange(RequestError):
    """The computation left its valid range."""


class DeadlineExceeded(RequestError):
    """The answer would come too late."""


class Internal(RequestError):
    """The server failed. The text must not carry the server's insides."""
