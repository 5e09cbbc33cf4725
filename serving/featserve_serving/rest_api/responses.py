"""HTTP responses: JSON, and the one place where an error becomes an HTTP status."""

from __future__ import annotations

from starlette.responses import Response

from ..errors import RequestError
from . import json_output

#: The shortest that the header can say.
SHORTEST_RETRY_S = 1
#: HTTP's codes for the canonical status; any other is 500.
#: Reference: tensorflow_serving/model_servers/http_server.cc.
_HTTP_CODES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


def json_response(body: bytes, status: int = 200) -> Response:
    """Returns a response of JSON text."""
    return Response(body, status, headers={"content-type": "application/json"})


def failure(exc: RequestError) -> Response:
    """Returns the response that tells of a refusal; one without a text has an empty body."""
    body = json_output.error(str(exc)) if str(exc) else b""
    return json_response(body, http_code(exc))


def http_code(exc: RequestError) -> int:
    """Returns HTTP's code for a refusal."""
    return _HTTP_CODES.get(exc.status, 500)


def later(exc: RequestError, seconds: int) -> Response:
    """Returns the response that tells of a refusal, and when to come back."""
    response = failure(exc)
    response.headers["retry-after"] = str(seconds)
    return response


def last(text: str, status: int) -> Response:
    """Returns the response to a request that was not read to its end: it closes the connection."""
    response = json_response(json_output.error(text), status)
    response.headers["connection"] = "close"
    return response
