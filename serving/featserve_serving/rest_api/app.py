"""The REST API: paths and texts of TensorFlow Serving's, over the same handlers as gRPC.

Reference: tensorflow_serving/model_servers/http_rest_api_handler.cc, http_rest_api_util.cc.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import unquote

from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from ..core import messages
from ..core.admission import BoundedPool
from ..core.handlers import CLASSIFY, REGRESS, Handlers
from ..errors import DeadlineExceeded, InvalidArgument, RequestError, ResourceExhausted, Unavailable
from ..models.servable import DEFAULT_SIGNATURE
from ..models.state import ModelRef
from ..telemetry.call import REQUEST_ID, Call, request_id_of
from ..telemetry.metrics import Metrics
from ..telemetry.recorder import Recorder
from . import json_input, json_output

_ENTRYPOINT = "REST"
_CHOICE = r"(?:(?:/versions/(?P<version>\d+))|(?:/labels/(?P<label>[^/:]+)))?"
_MODEL_CALL = re.compile(rf"/v1/models/(?P<name>[^/:]+){_CHOICE}:(?P<method>classify|regress|predict)", re.I | re.A)
_MODEL_VIEW = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_CHOICE}(?:/(?P<metadata>metadata))?", re.I | re.A)
_API = re.compile(r"/v1/.*", re.I | re.S)
#: Methods of models as they must be spelled; those with a name in the SavedModel take examples.
_MODEL_METHODS = {"predict": "", "classify": CLASSIFY, "regress": REGRESS}
_METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
_NOT_FOUND = "<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"
#: The shortest that the header can say.
_SHORTEST_RETRY_S = 1
_LARGE_BYTES = 1 << 20
#: Large requests at once: they wait for each other, and must not hold every thread meanwhile.
_MAX_LARGE = 8
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
_CORS = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "POST, GET",
    "access-control-allow-headers": "Content-Type",
}


@dataclass(frozen=True, kw_only=True)
class RestOptions:
    """How REST requests are taken; no metrics path means no metrics."""

    max_body_bytes: int
    timeout_s: float = 30.0
    metrics_path: str | None = "/monitoring/prometheus/metrics"
    cors: bool = False


class RestApi:
    """The HTTP application.

    Args:
        handlers: what the requests ask for.
        recorder: keeps the record of each call.
        metrics: is shown, and counts bytes and refusals.
        pools: the threads of predict, and of all else.
        options: how requests are taken.
    """

    def __init__(
        self,
        handlers: Handlers,
        recorder: Recorder,
        metrics: Metrics,
        pools: tuple[BoundedPool, BoundedPool],
        options: RestOptions,
    ) -> None:
        self._handlers = handlers
        self._recorder = recorder
        self._metrics = metrics
        self._compute, self._control = pools
        self._options = options
        self._draining = False
        self._large = threading.Lock()
        self._room = threading.BoundedSemaphore(_MAX_LARGE)

    def drain(self) -> None:
        """Refuse work from now on, in a way that makes clients try another server."""
        self._draining = True

    def app(self) -> Starlette:
        """Return the ASGI application."""
        routes = [Route("/{path:path}", self._answer, methods=_METHODS)]
        if self._options.metrics_path is not None:
            routes.insert(0, Route(self._options.metrics_path, self._show_metrics, methods=_METHODS))
        return Starlette(routes=routes)

    async def _show_metrics(self, _: Request) -> Response:
        page = await asyncio.wrap_future(self._control.submit(self._metrics.page))
        return Response(page, headers={"content-type": "text/plain"})

    async def _answer(self, request: Request) -> Response:
        path = request.scope["raw_path"].partition(b"?")[0].decode("latin-1")
        if query := request.scope["query_string"].decode("latin-1"):
            path += f"?{query}"  # TensorFlow Serving takes it for part of the path
        if not _API.fullmatch(path):
            return Response(_NOT_FOUND, 404, headers={"content-type": "text/html"})
        headers = {key: value for key, value in request.headers.items()}
        request_id = request_id_of(headers.items())
        if request.method == "OPTIONS":
            response = _preflight(headers.get("origin", ""))
        else:
            response = await self._answer_api(request, path, headers, request_id)
        response.headers[REQUEST_ID] = request_id
        if self._options.cors:
            response.headers.update(_CORS)
        return response

    async def _answer_api(self, request: Request, path: str, headers: dict[str, str], request_id: str) -> Response:
        found = _MODEL_CALL.fullmatch(path) if request.method == "POST" else None
        pool = self._compute if found else self._control
        if found and self._draining:
            return _later(Unavailable("The server is stopping."), _SHORTEST_RETRY_S)
        if pool.full:
            self._metrics.refused(_ENTRYPOINT)
            seconds = -(-pool.retry_after_ms() // 1000)
            return _later(ResourceExhausted("The server is at its limit of requests."), seconds)
        try:
            body = await asyncio.wait_for(self._body(request), self._options.timeout_s)
        except ClientDisconnect:
            return Response(status_code=499)
        except asyncio.TimeoutError:
            text = f"The request did not arrive within {self._options.timeout_s:g} s."
            return _last(_json(json_output.error(text), 408))
        if body is None:
            text = f"The request is larger than {self._options.max_body_bytes} bytes."
            return _last(_json(json_output.error(text), 413))
        call = Call(
            method=found["method"] if found else "",
            entrypoint=_ENTRYPOINT,
            request_id=request_id,
            headers=headers,
        )
        response = await self._in(pool, request, lambda: self._respond(call, request.method, path, body))
        self._metrics.transferred(_ENTRYPOINT, len(body), len(response.body))
        return response

    async def _body(self, request: Request) -> bytes | None:
        """Return the body, or `None` as soon as it is too large."""
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self._options.max_body_bytes:
            return None
        chunks, size = [], 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > self._options.max_body_bytes:
                return None
            chunks.append(chunk)
        return b"".join(chunks)

    async def _in(self, pool: BoundedPool, request: Request, work: Callable[[], Response]) -> Response:
        """Run in a thread; a caller that leaves, or waits too long, takes its place in the queue along."""
        future: asyncio.Future[Response] = asyncio.wrap_future(pool.submit(work))
        gone = asyncio.ensure_future(request.receive())
        either: set[asyncio.Future[Any]] = {future, gone}
        done, _ = await asyncio.wait(either, timeout=self._options.timeout_s, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if future in done:
            return future.result()
        future.cancel()
        return _failure(DeadlineExceeded(f"No answer within {self._options.timeout_s:g} s."))

    def _respond(self, call: Call, http_method: str, path: str, body: bytes) -> Response:
        try:
            return _json(self._recorder.run(call, lambda: self._work(call, http_method, path, body)))
        except ResourceExhausted as exc:
            return _later(exc, _SHORTEST_RETRY_S)
        except RequestError as exc:
            return _failure(exc)

    def _work(self, call: Call, http_method: str, path: str, body: bytes) -> bytes:
        pattern = {"POST": _MODEL_CALL, "GET": _MODEL_VIEW}.get(http_method)
        found = pattern.fullmatch(path) if pattern else None
        if found is None or (pattern is _MODEL_CALL and found["method"] not in _MODEL_METHODS):
            raise InvalidArgument(f"Malformed request: {http_method} {path}")
        ref = _model_ref(found)
        call.model = ref.name
        if pattern is _MODEL_CALL:
            method = _MODEL_METHODS[found["method"]]
            return self._refuse(ref, method, body) if method else self._predict(ref, body)
        if not ref.name:
            raise InvalidArgument("Missing model name in request.")
        return self._metadata(ref) if found["metadata"] == "metadata" else self._status(ref)

    def _predict(self, ref: ModelRef, body: bytes) -> bytes:
        if len(body) <= _LARGE_BYTES:
            return self._converted(ref, body)
        if not self._room.acquire(blocking=False):
            raise ResourceExhausted("The server is at its limit of large requests; gRPC takes more of them.")
        try:
            return self._converted(ref, body)
        finally:
            self._room.release()

    def _converted(self, ref: ModelRef, body: bytes) -> bytes:
        with self._alone(len(body)):
            request = json_input.parse(body)
            name = request.signature_name or DEFAULT_SIGNATURE
            known = self._handlers.signatures(ref)
            if name not in known.signatures:
                raise InvalidArgument(f'Serving signature name: "{name}" not found in signature def')
            arrays, by_row = json_input.inputs(request, known.signatures[name].inputs)
            del request
        result = self._handlers.predict(ref, name, arrays)
        with self._alone(sum(array.nbytes for array in result.outputs.values())):
            return json_output.answer(result.outputs, by_row)

    def _alone(self, size_bytes: int) -> contextlib.AbstractContextManager[object]:
        """Let one large text at a time become objects: together they gain no speed and take the memory of all."""
        return self._large if size_bytes > _LARGE_BYTES else contextlib.nullcontext()

    def _refuse(self, ref: ModelRef, method: str, body: bytes) -> NoReturn:
        self._handlers.refuse_examples(ref, json_input.parse(body).signature_name, method)

    def _status(self, ref: ModelRef) -> bytes:
        response = messages.status_response(self._handlers.statuses(ref.name, ref.version))
        return (_proto_json(response, proto_names=False)).encode()

    def _metadata(self, ref: ModelRef) -> bytes:
        known = self._handlers.signatures(ref)
        spec = _proto_json(messages.model_spec(known.model, known.version, ""))
        signatures = _proto_json(messages.signature_def_map(known))
        return f'{{\n"model_spec":{spec},\n"metadata": {{"signature_def": {signatures}}}\n}}\n'.encode()


def _model_ref(found: re.Match[str]) -> ModelRef:
    version = found["version"]
    if version is not None and int(version) >= 2**63:
        raise InvalidArgument(f"Failed to convert version: {version} to numeric.")
    return ModelRef(
        name=unquote(found["name"] or ""),
        version=None if version is None else int(version),
        label=None if found["label"] is None else unquote(found["label"]),
    )


def _preflight(origin: str) -> Response:
    if re.search(r"https?://", origin):
        return _json(b"")
    return Response(b"", 400, headers={"content-type": "application/json"})


def _failure(exc: RequestError) -> Response:
    return _json(json_output.error(str(exc)), _HTTP_CODES.get(exc.status, 500))


def _later(exc: RequestError, seconds: int) -> Response:
    response = _failure(exc)
    response.headers["retry-after"] = str(seconds)
    return response


def _last(response: Response) -> Response:
    """Close the connection after an answer to a request that was not read to its end."""
    response.headers["connection"] = "close"
    return response


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, headers={"content-type": "application/json"})


def _proto_json(message: Any, *, proto_names: bool = True) -> str:
    return (
        json_format.MessageToJson(
            message, indent=1, preserving_proto_field_name=proto_names, always_print_fields_with_no_presence=True
        )
        + "\n"
    )
