"""One server, event by event: admission, threads, the graph's batches, and the cores of its machine."""

from __future__ import annotations

import heapq
import random
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
        """Returns the settings of a manifest's `batching`."""
        return cls(
            threads=batching["num_batch_threads"],
            largest=batching["max_batch_size"],
            sizes=tuple(batching["allowed_batch_sizes"]),
            timeout_s=batching["batch_timeout_micros"] / 1e6,
            running=running,
            waiting=waiting,
        )


class Cores:
    """Cores of a machine, which all jobs share by the cores that each can use, as the kernel's scheduler does.

    Time is virtual: it passes as fast as a job that can use one core gets ahead. Each job has an end in it that does
    not move when others come and go.
    """

    def __init__(self, env: simpy.Environment, cores: int) -> None:
        self._env = env
        self._cores = cores
        #: End in virtual time, number of the job, cores it can use, and what follows it.
        self._jobs: list[tuple[float, int, float, Callable[[], None]]] = []
        self._wanted = 0.0
        self._virtual_s = self._since = 0.0
        self._number = self._event = 0
        #: Core-seconds worked.
        self.busy_s = 0.0

    def submit(self, work_s: float, spread: float, then: Callable[[], None]) -> None:
        """Calls `then` once `work_s` core-seconds are done, on `spread` cores at most."""
        self._advance()
        self._number += 1
        heapq.heappush(self._jobs, (self._virtual_s + work_s / spread, self._number, spread, then))
        self._wanted += spread
        self._next()

    @property
    def _speed(self) -> float:
        return min(1.0, self._cores / self._wanted)

    def _advance(self) -> None:
        passed, self._since = self._env.now - self._since, self._env.now
        if self._jobs:
            self._virtual_s += passed * self._speed
            self.busy_s += passed * min(self._wanted, float(self._cores))

    def _next(self) -> None:
        self._event += 1
        left_s = max(self._jobs[0][0] - self._virtual_s, 0.0)
        self._env.timeout(left_s / self._speed, self._event).callbacks.append(self._finish)

    def _finish(self, event: simpy.Event) -> None:
        if event.value != self._event:  # other jobs came since, and with them another event
            return
        self._advance()
        end, _, spread, then = heapq.heappop(self._jobs)
        self._virtual_s = max(self._virtual_s, end)  # sums of small numbers must not leave a rest of the job
        self._wanted = self._wanted - spread if self._jobs else 0.0
        if self._jobs:
            self._next()
        then()


class Threads:
    """The threads of one server, which take jobs in order and share the cores of the machine with other servers'."""

    def __init__(self, cores: Cores, count: int) -> None:
        self._cores = cores
        self._free = self._count = count
        self._queue: deque[tuple[float, float, Callable[[], None]]] = deque()

    @property
    def idle(self) -> bool:
        """Whether all threads are free."""
        return self._free == self._count

    def submit(self, work_s: float, spread: float, then: Callable[[], None]) -> None:
        """Calls `then` once a thread has seen to `work_s` core-seconds, on `spread` cores at most."""
        self._queue.append((work_s, spread, then))
        self._start()

    def _start(self) -> None:
        if self._free and self._queue:
            self._free -= 1
            work_s, spread, then = self._queue.popleft()
            self._cores.submit(work_s, spread, lambda: self._finished(then))

    def _finished(self, then: Callable[[], None]) -> None:
        self._free += 1
        self._start()
        then()


class SimulatedServer:
    """A server.

    Args:
        env: the simulation.
        times: what its work takes.
        settings: how it batches and whom it admits.
        cores: of its machine.
        seed: of what work takes from call to call.
    """

    def __init__(
        self, env: simpy.Environment, times: ServiceTimes, settings: Settings, cores: Cores, seed: int = 0
    ) -> None:
        self._env = env
        self._settings = settings
        # Requests and batches meet here: TensorFlow runs all operations in as many threads as there are cores.
        self._threads = Threads(cores, times.cores)
        self._parallel = times.parallel
        self._random, self._variation = random.Random(seed), times.variation
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

    def ask(self, which: int, images: int, answered: Callable[[bool], None]) -> None:
        """Sends request number `which` of the payload; `answered` is told whether it was answered or refused."""
        if self._inside < self._settings.running:
            self._start(which, images, answered)
        elif len(self._calls) < self._settings.waiting:
            self._calls.append((which, images, answered))
        else:
            answered(False)

    def _start(self, which: int, images: int, answered: Callable[[bool], None]) -> None:
        self._inside += 1
        call = [images, answered]
        work_s = (self._alone_s if self._threads.idle else self._request_s)[which]
        self._submit(work_s, 1.0, lambda: self._enqueue(call, images))

    def _submit(self, work_s: float, spread: float, then: Callable[[], None]) -> None:
        self._threads.submit(work_s * self._random.choice(self._variation), spread, then)

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
            self._submit(self._batch_s[size], self._parallel, lambda batch=batch: self._executed(batch))  # type: ignore[misc]

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
