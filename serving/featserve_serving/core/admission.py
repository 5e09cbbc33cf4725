"""Threads for calls: as many as may compute at once, a bounded queue before them, and a hint when to come back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

from ..errors import ResourceExhausted, Unavailable

#: Bounds of the hint, in ms: an idle moment is near, but nobody should be sent away for long.
_MIN_RETRY_MS, _MAX_RETRY_MS = 20, 5_000
#: Weight of the newest call in the running mean of call times.
_NEWEST = 0.1


class BoundedPool(futures.ThreadPoolExecutor):
    """A thread pool that knows when it is full.

    gRPC reads a request's message only when a thread takes the call, and drops a call that was cancelled before: a
    waiting call costs no memory, and one whose caller has gone costs no compute.

    Args:
        threads: calls that run at once.
        queue: calls that may wait for a thread.
        name: prefix of the threads' names.
    """

    def __init__(self, threads: int, queue: int, name: str) -> None:
        super().__init__(threads, thread_name_prefix=name)
        self.threads = threads
        self.queue = queue
        #: Whether callers over REST are sent elsewhere from now on; gRPC tells its callers by itself.
        self.draining = False
        self._lock = threading.Lock()
        self._pending = 0
        self._mean_s = 0.0
        #: Moment of `time.monotonic` at which the caller who was refused last is to come back.
        self._last_return = 0.0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        """Queues a call; the caller must have looked at `full` before."""
        with self._lock:
            self._pending += 1
        try:
            future = super().submit(self._timed, fn, *args, **kwargs)
        except BaseException:
            self._leave(None)
            raise
        future.add_done_callback(self._leave)
        return future

    def admit(self) -> None:
        """Refuses a call over REST that should not be submitted now.

        Raises:
            Unavailable: the server is stopping.
            ResourceExhausted: the pool is full.
        """
        if self.draining:
            raise Unavailable("The server is stopping.")
        if self.full:
            raise ResourceExhausted("The server is at its limit of requests.")

    @property
    def full(self) -> bool:
        """Whether the pool can take no further call now."""
        return self._pending >= self.threads + self.queue

    @property
    def running(self) -> int:
        """Calls that have a thread."""
        return min(self._pending, self.threads)

    @property
    def waiting(self) -> int:
        """Calls that wait for a thread."""
        return max(0, self._pending - self.threads)

    def retry_after_ms(self) -> int:
        """Returns the time after which a caller who is refused now should come back, judged by the last calls.

        The first one comes when half of what is pending is done, the others one after the other, as fast as calls end:
        a crowd that came back together would be refused together.
        """
        now, each_s = time.monotonic(), self._mean_s / self.threads
        with self._lock:
            latest = now + _MAX_RETRY_MS / 1e3
            self._last_return = min(latest, max(self._last_return + each_s, now + each_s * self._pending / 2))
            return max(_MIN_RETRY_MS, round((self._last_return - now) * 1e3))

    def _timed(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        started = time.monotonic()
        try:
            return fn(*args, **kwargs)
        finally:
            self._mean_s += _NEWEST * (time.monotonic() - started - self._mean_s)

    def _leave(self, _: futures.Future[Any] | None) -> None:
        with self._lock:
            self._pending -= 1


class Pools:
    """The threads of each kind of call: none can take another's.

    Args:
        max_threads: Predict calls that run at once.
        max_queued_requests: Predict calls that may wait for a thread.
    """

    def __init__(self, max_threads: int, max_queued_requests: int) -> None:
        self.compute = BoundedPool(max_threads, max_queued_requests, "featserve-predict")
        self.control = BoundedPool(4, 64, "featserve-control")
        self.reload = BoundedPool(1, 4, "featserve-reload")
        self.streams = BoundedPool(2, 8, "featserve-streams")

    def shutdown(self) -> None:
        """Lets the threads end; calls that still wait for a thread are dropped."""
        for pool in (self.compute, self.control, self.reload, self.streams):
            pool.shutdown(wait=False, cancel_futures=True)
