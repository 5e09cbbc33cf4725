"""The REST API: paths and texts of TensorFlow Serving's, over the same handlers as gRPC.

Reference: tensorflow_serving/model_servers/http_rest_api_handler.cc, http_rest_api_util.cc.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from ..core.admission import BoundedPool, Pools
from ..core.handlers import Handlers
from ..errors import DeadlineExceeded, RequestError, ResourceExhausted, Unavailable
from ..options import ServerOptions
from ..telemetry.call import REQUEST_ID, Call, request_id_of
from ..telemetry.metrics import Metrics
from ..telemetry.recorder import Recorder
from . import compression, paths, responses
from .console import Console
from .endpoints import Endpoints

_ENTRYPOINT = "REST"
_METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
_NOT_FOUND = "<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"
_CORS = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "POST, GET",
    "access-control-allow-headers": "Content-Type",
}


class RestApi:
    """The HTTP application.

    Args:
        handlers: what the requests ask for.
        recorder: keeps the record of each call.
        metrics: is shown, and counts bytes and refusals.
        pools: the threads of the requests.
        options: how requests are taken.
        metrics_path: where the metrics are shown; `None` means nowhere.
        console: the page at `/`; `None` means none.
    """

    def __init__(
        self,
        handlers: Handlers,
        recorder: Recorder,
        metrics: Metrics,
        pools: Pools,
        options: ServerOptions,
        metrics_path: str | None,
        console: Console | None,
    ) -> None:
        self._endpoints = Endpoints(handlers)
        self._recorder = recorder
        self._metrics = metrics
        self._pools = pools
        self._options = options
        self._metrics_path = metrics_path
        self._console = console

    def drain(self) -> None:
        """Refuses work from now on, in a way that makes clients try another server."""
        self._pools.compute.draining = True

    def app(self) -> Starlette:
        """Returns the ASGI application."""
        routes = [Route("/{path:path}", self._answer, methods=_METHODS)]
        if self._console is not None:
            routes[:0] = [Route("/", self._console), Route("/console/{path:path}", self._console)]
        if self._metrics_path is not None:
            routes.insert(0, Route(self._metrics_path, self._show_metrics, methods=_METHODS))
        return Starlette(routes=routes)

    async def _show_metrics(self, _: Request) -> Response:
        page = await asyncio.wrap_future(self._pools.control.submit(self._metrics.page))
        return Response(page, headers={"content-type": "text/plain"})

    async def _answer(self, request: Request) -> Response:
        path = request.scope["raw_path"].partition(b"?")[0].decode("latin-1")
        if query := request.scope["query_string"].decode("latin-1"):
            path += f"?{query}"  # TensorFlow Serving takes it for part of the path
        if not paths.API.fullmatch(path):
            return Response(_NOT_FOUND, 404, headers={"content-type": "text/html"})
        headers = {key: value for key, value in request.headers.items()}
        if headers.get("expect", "100-continue").lower() != "100-continue":
            return responses.last(f"Expect: expected 100-continue, received {headers['expect']:.100}", 417)
        request_id = request_id_of(headers.items())
        if request.method == "OPTIONS":
            response = _preflight(headers.get("origin", ""))
        else:
            response = await self._answer_api(request, path, headers, request_id)
        response.headers[REQUEST_ID] = request_id
        if self._options.rest_cors:
            response.headers.update(_CORS)
        return response

    async def _answer_api(self, request: Request, path: str, headers: dict[str, str], request_id: str) -> Response:
        found = paths.MODEL_CALL.fullmatch(path) if request.method == "POST" else None
        pool = self._pools.compute if found else self._pools.control
        try:
            pool.admit()
        except Unavailable as exc:
            return responses.later(exc, responses.SHORTEST_RETRY_S)
        except ResourceExhausted as exc:
            self._metrics.refused(_ENTRYPOINT)
            return responses.later(exc, -(-pool.retry_after_ms() // 1000))
        try:
            body = await asyncio.wait_for(self._body(request), self._options.rest_timeout_s)
        except ClientDisconnect:
            return Response(status_code=499)
        except asyncio.TimeoutError:
            text = f"The request did not arrive within {self._options.rest_timeout_s:g} s."
            return responses.last(text, 408)
        if body is None:
            text = f"The request is larger than {self._options.max_message_bytes} bytes."
            return responses.last(text, 413)
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
        """Returns the body, or `None` as soon as it is too large."""
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self._options.max_message_bytes:
            return None
        chunks, size = [], 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > self._options.max_message_bytes:
                return None
            chunks.append(chunk)
        return b"".join(chunks)

    async def _in(self, pool: BoundedPool, request: Request, work: Callable[[], Response]) -> Response:
        """Runs the work in a thread; a caller whose connection is reset, or who waits too long, gives up its place.

        A caller that closes its own side alone may still listen for the answer.
        """
        future: asyncio.Future[Response] = asyncio.wrap_future(pool.submit(work))
        gone = asyncio.ensure_future(request.receive())
        either: set[asyncio.Future[Any]] = {future, gone}
        done, _ = await asyncio.wait(either, timeout=self._options.rest_timeout_s, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if future in done:
            return future.result()
        future.cancel()
        return responses.failure(DeadlineExceeded(f"No answer within {self._options.rest_timeout_s:g} s."))

    def _respond(self, call: Call, http_method: str, path: str, body: bytes) -> Response:
        def work() -> bytes:
            encoding = call.headers.get("content-encoding", "")
            text = compression.inflated(body, encoding, self._options.max_message_bytes)
            return self._endpoints.answer(call, http_method, path, text)

        try:
            return responses.json_response(self._recorder.run(call, work))
        except ResourceExhausted as exc:
            return responses.later(exc, responses.SHORTEST_RETRY_S)
        except RequestError as exc:
            return responses.failure(exc)


def _preflight(origin: str) -> Response:
    if re.search(r"https?://", origin):
        return responses.json_response(b"")
    return Response(b"", 400, headers={"content-type": "application/json"})
