"""The page and its API, as an ASGI application over a `Source`.

TensorFlow Serving has nothing at `/` or under `/console/`, so that the page can stand on the port of a REST API.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from .assets import Assets
from .describe import describe
from .guard import Guard, host_name
from .history import History
from .look import look
from .manifest import default_layer
from .snippets import snippets
from .source import Description, Source, SourceError
from .uploads import Uploads

T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]

#: Calls of the source at once.
_MAX_CALLS = 8
_MAX_NUMBER = 2**63


def console_app(source: Source, hosts: Iterable[str] = ()) -> ASGIApp:
    """Returns the page of a server as an ASGI application: `/`, and what it needs under `/console/`.

    Args:
        source: the server.
        hosts: names by which browsers may call the page, beside `localhost` and addresses.

    Example:
        >>> uvicorn.run(console_app(source), port=8502)
    """
    console = _Console(source)
    routes = [
        Route("/", console.page),
        Route("/console/api/now", _answering(console.now)),
        Route("/console/api/model", _answering(console.model)),
        Route("/console/api/snippets", _answering(console.snippets)),
        Route("/console/api/look", _answering(console.look), methods=["POST"]),
        Route("/console/{name:path}", console.asset),
    ]
    handlers: dict[Any, Any] = {404: _not_found, Exception: _failed}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), console.style_hash, hosts)


class _Console:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._assets = Assets()
        self.style_hash = self._assets.style_hash
        self._uploads = Uploads(source.max_upload_bytes)
        self._history = History(source.metrics)
        self._room = asyncio.Semaphore(_MAX_CALLS)

    async def page(self, request: Request) -> Response:
        return self._assets.response(request, "index.html") or _missing()

    async def asset(self, request: Request) -> Response:
        return self._assets.response(request, request.path_params["name"]) or _missing()

    async def now(self, request: Request) -> Response:
        """Answers which models there are, in which states, and the figures after a time."""
        after = _number(request, "after", float) or 0.0
        return JSONResponse(await self._call(self._now, after, host_name(request.headers["host"])))

    async def model(self, request: Request) -> Response:
        """Answers what a version is."""
        name, version = _model(request)
        description = await self._call(self._describe, name, version)
        return JSONResponse(describe(name, description))

    async def snippets(self, request: Request) -> Response:
        """Answers code that asks a layer of a model."""
        name, version = _model(request)
        description = await self._call(self._describe, name, version)
        layer = request.query_params.get("layer") or default_layer(description) or ""
        address = self._source.address(host_name(request.headers["host"]))
        return JSONResponse(snippets(name, description, layer, address))

    async def look(self, request: Request) -> Response:
        """Answers what a model sees in the photo that is the body."""
        name, version = _model(request)
        layer, channel = request.query_params.get("layer"), _number(request, "channel", int)
        async with self._uploads.body(request) as photo:
            found = await self._call(look, self._source, name, version, layer, channel, photo)
        return JSONResponse(found)

    def _describe(self, name: str, version: int | None) -> Description:
        try:
            return self._source.describe(name, version)
        except SourceError as exc:
            versions = self._source.models().get(name, ())
            found = next((each for each in versions if each.version == version), None)
            if found is None or found.state == "AVAILABLE":
                raise
            text = f"version {version} of {name!r} does not answer: it is {found.state} {found.error}".rstrip()
            raise SourceError(text, 503) from exc

    def _now(self, after: float, host: str) -> dict[str, Any]:
        address = self._source.address(host)
        answer: dict[str, Any] = {
            "server": address.grpc,
            "max_upload_bytes": self._uploads.max_bytes,
            "models": None,
            "error": None,
            "figures": None,
            "figures_error": None,
        }
        try:
            answer["models"] = [
                {"name": name, "versions": [vars(version) for version in versions]}
                for name, versions in sorted(self._source.models().items())
            ]
        except SourceError as exc:
            answer["error"] = str(exc)
        try:
            answer["figures"] = self._history.points(after)
        except SourceError as exc:
            answer["figures_error"] = str(exc)
        return answer

    async def _call(self, work: Callable[..., T], *arguments: Any) -> T:
        async with self._room:
            return await run_in_threadpool(work, *arguments)


def _answering(endpoint: Endpoint) -> Endpoint:
    """Returns an endpoint whose errors are JSON, and whose answers no cache keeps."""

    async def answer(request: Request) -> Response:
        try:
            response = await endpoint(request)
        except SourceError as exc:
            response = _error(str(exc), exc.status)
        response.headers["cache-control"] = "no-store"
        return response

    return answer


def _model(request: Request) -> tuple[str, int | None]:
    name = request.query_params.get("name")
    if not name:
        raise SourceError("the parameter 'name' is missing: the model's name", 400)
    return name, _number(request, "version", int)


def _number(request: Request, key: str, kind: Callable[[str], T]) -> T | None:
    text = request.query_params.get(key)
    if not text:
        return None
    try:
        value = kind(text)
    except ValueError:
        value = None
    if not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value < _MAX_NUMBER:
        raise SourceError(f"the parameter {key!r} is {text[:40]!r}; expected a number from 0", 400)
    return value


def _missing() -> Response:
    return _error("there is nothing at this path", 404)


def _error(text: str, status: int) -> Response:
    # The rest of a body must not be read as another request: the connection ends.
    headers = {"connection": "close"} if status in (408, 413, 429) else None
    return JSONResponse({"error": text}, status, headers)


async def _not_found(_: Request, __: Exception) -> Response:
    return _missing()


async def _failed(_: Request, __: Exception) -> Response:
    return _error("the console failed; its log says why", 500)
