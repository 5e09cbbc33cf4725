"""The last minutes of a server's figures, taken while somebody looks."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from .prometheus import Counts, ModelCounts, parse, quantile

#: Points kept: five minutes.
_POINTS = 150
#: Seconds between two points at least, so that several pages ask the server no more often than one.
_INTERVAL_S = 1.9


class History:
    """Turns counters into rates and latencies, a point each time that a page asks."""

    def __init__(
        self,
        read: Callable[[], str | None],
        now: Callable[[], float] = time.time,
    ) -> None:
        """Keeps the history of a metrics page.

        Args:
            read: gives the page, or None where there is none.
            now: the clock, in seconds since 1970.
        """
        self._read = read
        self._now = now
        self._points: deque[dict[str, Any]] = deque(maxlen=_POINTS)
        self._last: tuple[float, Counts] | None = None
        self._lock = threading.Lock()

    def points(self, after: float = 0) -> list[dict[str, Any]] | None:
        """Takes a point if the last is old enough, and returns those after a time; None where there are no metrics.

        Raises:
            SourceError: the metrics cannot be had.
        """
        with self._lock:
            at = self._now()
            if self._last is None or at - self._last[0] >= _INTERVAL_S:
                text = self._read()
                if text is None:
                    return None
                counts = parse(text)
                if self._last is not None:
                    self._points.append(_point(at, self._last, counts))
                self._last = at, counts
            return [point for point in self._points if point["at"] > after]


def _point(at: float, last: tuple[float, Counts], counts: Counts) -> dict[str, Any]:
    before, seconds = last[1], at - last[0]
    models = {}
    for name, now in counts.models.items():
        then = before.models.get(name, ModelCounts())
        if now.answered < then.answered or now.batches < then.batches:
            then = ModelCounts()  # the server has started anew, and counts from zero
        models[name] = _figures(then, now, seconds)
    return {"at": at, "running": counts.running, "waiting": counts.waiting, "models": models}


def _figures(then: ModelCounts, now: ModelCounts, seconds: float) -> dict[str, Any]:
    errors = {code: (count - then.errors.get(code, 0)) / seconds for code, count in now.errors.items()}
    answered = (now.answered - then.answered) / seconds
    batches, delayed = now.batches - then.batches, now.delayed - then.delayed
    quantiles = [quantile(share, then.latency, now.latency) for share in (0.5, 0.99)]
    p50, p99 = (None if value is None else value / 1000 for value in quantiles)
    return {
        "per_s": answered + sum(errors.values()),
        "errors": {code: rate for code, rate in errors.items() if rate > 0},
        "p50_ms": p50,
        "p99_ms": p99,
        "batch": (now.images - then.images) / batches if batches > 0 else None,
        "queue_ms": (now.delay - then.delay) / delayed / 1000 if delayed > 0 else None,
    }
