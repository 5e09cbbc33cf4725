"""What happens to every call: an id, and one place where errors become status codes."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import Any

import grpc

from . import _errors

_LOGGER = logging.getLogger(__name__)
REQUEST_ID = "x-request-id"

STATUS_CODES: dict[type[_errors.RequestError], grpc.StatusCode] = {
    _errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    _errors.NotFound: grpc.StatusCode.NOT_FOUND,
    _errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    _errors.ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    _errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    _errors.Unimplemented: grpc.StatusCode.UNIMPLEMENTED,
    _errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    _errors.Aborted: grpc.StatusCode.ABORTED,
    _errors.OutOfRange: grpc.StatusCode.OUT_OF_RANGE,
    _errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    _errors.Internal: grpc.StatusCode.INTERNAL,
}

#: The answer to whatever nobody foresaw. The log has the rest.
UNKNOWN_ERROR = "The server failed; its log says why."

#: A status text travels in a header, percent-encoded, and clients refuse headers over 8 KiB.
_MAX_DETAILS_BYTES = 4096


class StatusInterceptor(grpc.ServerInterceptor):  # type: ignore[misc]
    """Gives each call its id and turns typed errors into status codes."""

    def __init__(self) -> None:
        self._wrapped: dict[str, grpc.RpcMethodHandler] = {}

    def intercept_service(self, continuation: Callable[..., Any], details: grpc.HandlerCallDetails) -> Any:
        """Wrap the method's handler, once for each method."""
        wrapped = self._wrapped.get(details.method)
        if wrapped is None:
            handler = continuation(details)
            if handler is None or handler.unary_unary is None:
                return handler
            wrapped = self._wrapped[details.method] = grpc.unary_unary_rpc_method_handler(
                _guarded(details.method, handler.unary_unary), handler.request_deserializer, handler.response_serializer
            )
        return wrapped


def _guarded(method: str, behavior: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(request: Any, context: grpc.ServicerContext) -> Any:
        request_id = _request_id(context)
        context.set_trailing_metadata(((REQUEST_ID, request_id),))
        try:
            return behavior(request, context)
        except _errors.RequestError as exc:
            code, text = STATUS_CODES[type(exc)], str(exc)
            if isinstance(exc, _errors.Internal):
                _LOGGER.exception("%s failed, request %s", method, request_id)
        except Exception:
            code, text = grpc.StatusCode.INTERNAL, UNKNOWN_ERROR
            _LOGGER.exception("%s failed, request %s", method, request_id)
        context.abort(code, _fit(text))

    return guarded


def _request_id(context: grpc.ServicerContext) -> str:
    for key, value in context.invocation_metadata():
        if key == REQUEST_ID and isinstance(value, str) and 0 < len(value) <= 128 and value.isprintable():
            return value
    return uuid.uuid4().hex


def _fit(text: str) -> str:
    size = 0
    for position, char in enumerate(text):
        size += 1 if " " <= char <= "~" else 3 * len(char.encode("utf-8", "replace"))
        if size > _MAX_DETAILS_BYTES:
            return text[:position] + " ..."
    return text
