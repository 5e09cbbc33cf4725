"""One server, event by event: admission, threads, the graph's batches, and cores that all of them share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import simpy

from .service_times import ServiceTimes


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a server batches and whom it admits.

    Attributes:
        threads: batches that run at once.
        largest: images a batch at most.
        sizes: that batches are padded to, increasing; the last is `largest`.
        timeout_s: how long an incomplete batch waits for company while a thread is free.
        running: calls that are computed at once.
        waiting: calls that wait for their turn; any more is refused.
    """

    threads: int
    largest: int
    sizes: tuple[int, ...]
    timeout_s: float = 0.0
    running: int = 32
    waiting: int = 16

    @classmethod
    def of(cls, batching: dict[str, Any], *, running: int = 32, waiting: int = 16) -> Settings:
        """Return the settings of a manifest's `batching`."""
        return cls(
            threads=batching["num_batch_threads"],
            largest=batching["max_batch_size"],
            sizes=tuple(batching["allowed_batch_sizes"]),
            timeout_s=batching["batch_timeout_micros"] / 1e6,
            running=running,
            waiting=waiting,
        )


class Cores:
    """Cores that take jobs in order, one job a core; a job alone may be spread over several."""

    def __init__(self, env: simpy.Environment, cores: int) -> None:
        self._env = env
        self._cores = cores
        self._queue: deque[list[Any]] = deque()
        self._running: list[list[Any]] = []
        self._since = 0.0
        self._event = 0
        #: Core-seconds worked.
        self.busy_s = 0.0

    def submit(self, work_s: float, spread: float, then: Callable[[], None]) -> None:
        """Call `then` once `work_s` core-seconds are done, on `spread` cores at most."""
        self._queue.append([work_s, spread, then])
        if len(self._running) < self._cores:
            self._settle()
            self._next()

    @property
    def idle(self) -> bool:
        """Whether nothing is done."""
        return not self._running

    def _settle(self) -> None:
        passed, self._since = self._env.now - self._since, self._env.now
        for job in self._running:
            done = passed * self._speed(job)
            job[0] -= done
            self.busy_s += done

    def _speed(self, job: list[Any]) -> float:
        return min(float(job[1]), self._cores / len(self._running))

    def _next(self) -> None:
        while self._queue and len(self._running) < self._cores:
            self._running.append(self._queue.popleft())
        if not self._running:
            return
        self._event += 1
        soonest = min(job[0] / self._speed(job) for job in self._running)
        self._env.timeout(max(soonest, 0.0), self._event).callbacks.append(self._finish)

    def _finish(self, event: simpy.Event) -> None:
        if event.value != self._event:  # other jobs came since, and with them another event
            return
        self._settle()
        done = [job for job in self._running if job[0] <= 1e-9]
        self._running = [job for job in self._running if job[0] > 1e-9]
        self._event += 1
        for job in done:
            job[2]()
        self._settle()
        self._next()


class SimulatedServer:
    """A server.

    Args:
        env: the simulation.
        times: what its work takes.
        settings: how it batches and whom it admits.
    """

    def __init__(self, env: simpy.Environment, times: ServiceTimes, settings: Settings) -> None:
        self._env = env
        self._settings = settings
        self._cores = Cores(env, times.cores)
        self._parallel = times.parallel
        self._request_s = [ms / 1e3 for ms in times.request_ms]
        self._alone_s = [ms / 1e3 for ms in times.alone_request_ms]
        self._batch_s = {size: times.batch_ms[size] / 1e3 for size in settings.sizes}
        self._padded = [next(size for size in settings.sizes if size >= n) for n in range(settings.largest + 1)]
        self._calls: deque[tuple[int, int, Callable[[bool], None]]] = deque()
        self._inside = 0
        self._images: deque[tuple[float, list[Any]]] = deque()
        self._free = settings.threads
        self._alarm = -1.0
        #: Seconds that images waited for a batch thread.
        self.waited_s: list[float] = []
        #: Batches by padded size.
        self.batches: dict[int, int] = {}

    @property
    def busy_s(self) -> float:
        """Core-seconds worked."""
        return self._cores.busy_s

    def ask(self, which: int, images: int, answered: Callable[[bool], None]) -> None:
        """Send request number `which` of the payload; `answered` is told whether it was answered or refused."""
        if self._inside < self._settings.running:
            self._start(which, images, answered)
        elif len(self._calls) < self._settings.waiting:
            self._calls.append((which, images, answered))
        else:
            answered(False)

    def _start(self, which: int, images: int, answered: Callable[[bool], None]) -> None:
        self._inside += 1
        call = [images, answered]
        work_s = (self._alone_s if self._cores.idle else self._request_s)[which]
        self._cores.submit(work_s, 1.0, lambda: self._enqueue(call, images))

    def _enqueue(self, call: list[Any], images: int) -> None:
        now = self._env.now
        self._images.extend((now, call) for _ in range(images))
        self._dispatch()

    def _dispatch(self) -> None:
        while self._free and self._images:
            due = self._images[0][0] + self._settings.timeout_s
            if len(self._images) < self._settings.largest and due > self._env.now + 1e-9:
                if due != self._alarm:
                    self._alarm = due
                    self._env.timeout(due - self._env.now).callbacks.append(lambda _: self._dispatch())
                return
            count = min(len(self._images), self._settings.largest)
            batch = [self._images.popleft() for _ in range(count)]
            self.waited_s += [self._env.now - since for since, _ in batch]
            size = self._padded[count]
            self.batches[size] = self.batches.get(size, 0) + 1
            self._free -= 1
            self._cores.submit(self._batch_s[size], self._parallel, lambda batch=batch: self._executed(batch))  # type: ignore[misc]

    def _executed(self, batch: list[tuple[float, list[Any]]]) -> None:
        self._free += 1
        for _, call in batch:
            call[0] -= 1
            if call[0] == 0:
                self._inside -= 1
                call[1](True)
                if self._calls and self._inside < self._settings.running:
                    self._start(*self._calls.popleft())
        self._dispatch()
