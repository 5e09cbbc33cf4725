"""Runs calls: the one place where a call gets its span, its clock, its line in the log and its count."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from ..errors import Internal, RequestError
from .call import Call, working_on
from .metrics import Metrics
from .tracing import Tracer

T = TypeVar("T")
_LOGGER = logging.getLogger(__name__)
#: The answer to whatever nobody foresaw. The log has the rest.
UNKNOWN_ERROR = "The server failed; its log says why."


class Recorder:
    """Runs calls and keeps their record."""

    def __init__(self, metrics: Metrics, tracer: Tracer) -> None:
        self._metrics = metrics
        self._tracer = tracer

    def run(self, call: Call, work: Callable[[], T]) -> T:
        """Does the work of a call.

        Raises:
            RequestError: the work refuses the request; any other error becomes `Internal` with a fixed text.
        """
        started = time.perf_counter()
        error: RequestError | None = None
        with working_on(call), self._tracer.span(call) as span:
            try:
                return work()
            except RequestError as exc:
                error = exc
                raise
            except Exception as exc:
                error = Internal(UNKNOWN_ERROR)
                raise error from exc
            finally:
                seconds = time.perf_counter() - started
                span.end(call, error)
                self._metrics.observe(call, error, seconds)
                self._log(call, error, seconds)
                # Its traceback holds this frame: together they would keep the call and its bytes until a collection.
                error = None

    @staticmethod
    def _log(call: Call, error: RequestError | None, seconds: float) -> None:
        if error is None:
            _LOGGER.debug("%s answered in %.1f ms", call.method, seconds * 1e3)
        elif isinstance(error, Internal):
            _LOGGER.error("%s failed after %.1f ms", call.method, seconds * 1e3, exc_info=error.__cause__ or error)
        else:
            # The text alone: a handler that keeps records would keep the error, its frames and the call.
            _LOGGER.info("%s refused: %s: %.500s", call.method, type(error).__name__, str(error))
