"""One call, whichever protocol brought it: its identity, its clock, its record in log, metrics and trace."""

from __future__ import annotations

import contextvars
import logging
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from . import _errors
from ._metrics import Metrics
from ._tracing import Tracer

T = TypeVar("T")
_LOGGER = logging.getLogger(__name__)
REQUEST_ID = "x-request-id"
_MAX_ID_CHARS = 128

#: The answer to whatever nobody foresaw. The log has the rest.
UNKNOWN_ERROR = "The server failed; its log says why."


@dataclass(kw_only=True)
class Call:
    """What is known about a call; the handlers fill in the model as they find it."""

    method: str
    entrypoint: str
    request_id: str
    headers: dict[str, str] = field(default_factory=dict)
    model: str = ""
    version: int | None = None
    signature: str = ""
    runtime_s: float | None = None


_CURRENT: contextvars.ContextVar[Call | None] = contextvars.ContextVar("featserve_call", default=None)


def current() -> Call | None:
    """Return the call that this thread works on."""
    return _CURRENT.get()


def request_id(headers: Iterable[tuple[str, str | bytes]]) -> str:
    """Return the caller's own id, if it is a decent one, else a new one."""
    for key, value in headers:
        if key == REQUEST_ID and isinstance(value, str) and 0 < len(value) <= _MAX_ID_CHARS:
            if value.isascii() and value.isprintable():
                return value
    return uuid.uuid4().hex


class Recorder:
    """Runs calls and keeps their record."""

    def __init__(self, metrics: Metrics, tracer: Tracer) -> None:
        self._metrics = metrics
        self._tracer = tracer

    def run(self, call: Call, work: Callable[[], T]) -> T:
        """Do the work of a call.

        Raises:
            RequestError: the work's own, or `Internal` with a fixed text for anything else.
        """
        token = _CURRENT.set(call)
        started = time.perf_counter()
        error: _errors.RequestError | None = None
        try:
            with self._tracer.span(call) as span:
                try:
                    return work()
                except _errors.RequestError as exc:
                    error = exc
                    raise
                except Exception as exc:
                    error = _errors.Internal(UNKNOWN_ERROR)
                    raise error from exc
                finally:
                    span.end(call, error)
        finally:
            seconds = time.perf_counter() - started
            self._metrics.observe(call, error, seconds)
            self._log(call, error, seconds)
            _CURRENT.reset(token)
            # Its traceback holds this frame: together they would keep the call and its bytes until a collection.
            error = None

    @staticmethod
    def _log(call: Call, error: _errors.RequestError | None, seconds: float) -> None:
        if error is None:
            _LOGGER.debug("%s answered in %.1f ms", call.method, seconds * 1e3)
        elif isinstance(error, _errors.Internal):
            _LOGGER.error("%s failed after %.1f ms", call.method, seconds * 1e3, exc_info=error.__cause__ or error)
        else:
            # The text alone: a handler that keeps records would keep the error, its frames and the call.
            _LOGGER.info("%s refused: %s: %.500s", call.method, type(error).__name__, str(error))
