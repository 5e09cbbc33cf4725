"""Errors as the codes of the two protocols."""

from __future__ import annotations

import grpc

from . import _errors

_GRPC = grpc.StatusCode

#: Type, gRPC's code, HTTP's code.
#: Reference: tensorflow_serving/model_servers/http_server.cc for the last.
_TABLE: tuple[tuple[type[_errors.RequestError], grpc.StatusCode, int], ...] = (
    (_errors.InvalidArgument, _GRPC.INVALID_ARGUMENT, 400),
    (_errors.NotFound, _GRPC.NOT_FOUND, 404),
    (_errors.FailedPrecondition, _GRPC.FAILED_PRECONDITION, 400),
    (_errors.ResourceExhausted, _GRPC.RESOURCE_EXHAUSTED, 429),
    (_errors.Unavailable, _GRPC.UNAVAILABLE, 503),
    (_errors.Unimplemented, _GRPC.UNIMPLEMENTED, 501),
    (_errors.PermissionDenied, _GRPC.PERMISSION_DENIED, 403),
    (_errors.Aborted, _GRPC.ABORTED, 409),
    (_errors.OutOfRange, _GRPC.OUT_OF_RANGE, 400),
    (_errors.DeadlineExceeded, _GRPC.DEADLINE_EXCEEDED, 504),
    (_errors.Internal, _GRPC.INTERNAL, 500),
)
GRPC_CODES = {kind: code for kind, code, _ in _TABLE}
HTTP_CODES = {kind: code for kind, _, code in _TABLE}


def status_name(error: _errors.RequestError | None) -> str:
    """Return the canonical name of the outcome, such as `OK` or `NOT_FOUND`."""
    return "OK" if error is None else str(GRPC_CODES[type(error)].name)
