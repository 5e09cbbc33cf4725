"""Client processes under one command."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any

import numpy as np

from . import schedule, worker
from .errors import LoadError
from .measurement import Measurement
from .payload import Payload
from .worker import SAMPLE, Task

#: From the command until the first request is due: workers must have it by then.
_LEAD_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A load that does not change: `rate` requests per second, or `callers`."""

    duration_s: float
    rate: float | None = None
    callers: int | None = None
    arrivals: schedule.Arrivals = "poisson"
    warmup_s: float = 0.5
    timeout_s: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.rate is None) == (self.callers is None):
            raise LoadError("a stage has a rate (open loop) or callers (closed loop)")
        if self.rate is not None and not self.rate > 0:
            raise LoadError(f"a rate is above 0 requests per second, not {self.rate}")
        if self.callers is not None and self.callers < 1:
            raise LoadError(f"callers are at least 1, not {self.callers}")
        if not self.duration_s > 0:
            raise LoadError(f"a duration is above 0 seconds, not {self.duration_s}")

    @property
    def mode(self) -> str:
        """`poisson`, `constant` or `closed`."""
        return "closed" if self.rate is None else self.arrivals

    @property
    def load(self) -> float:
        """Requests per second, or callers."""
        return float(self.callers or 0) if self.rate is None else self.rate

    @property
    def name(self) -> str:
        """As a person would say it."""
        return f"{self.callers} callers" if self.rate is None else f"{self.rate:g}/s {self.arrivals}"


class Generator:
    """Client processes that send one payload; a context manager.

    Args:
        targets: `HOST:PORT`; requests go to each in turn.
        payload: what is sent.
        processes: client processes.
        live: whether a line with the state of things is kept up to date on stderr.
    """

    def __init__(self, targets: Sequence[str], payload: Payload, *, processes: int = 2, live: bool = False) -> None:
        self._payload = payload
        self._live = live
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        for _ in range(processes):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_entry, args=(theirs, list(targets), payload.requests), daemon=True, name="featserve-load"
            )
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def __enter__(self) -> Generator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """The client processes."""
        return [process.pid for process in self._processes]

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            try:
                pipe.send(None)
            except OSError:
                continue
        for process in self._processes:
            process.join(2)
            if process.is_alive():
                process.kill()
                process.join()
        for pipe in self._pipes:
            pipe.close()

    def run(self, stage: Stage, observe: Callable[[], dict[str, Any]] = dict) -> Measurement:
        """Run a stage.

        Args:
            stage: the load.
            observe: called when the measuring begins and when it ends; the second answer is kept as `server`.

        Raises:
            LoadError: a client process died.
        """
        start = time.monotonic() + _LEAD_S
        begin, end = start + stage.warmup_s, start + stage.warmup_s + stage.duration_s
        for index, task in enumerate(self._tasks(stage, start, end)):
            try:
                self._pipes[index].send(task)
            except OSError as exc:
                raise LoadError(f"client process {index} is gone") from exc
        parts, cpu_s, server = [], 0.0, {}
        waiting = set(self._pipes)
        observed = 0
        shown = 0.0
        while waiting:
            ready = wait(list(waiting), timeout=0.1)
            for pipe in [each for each in self._pipes if each in ready]:
                try:
                    kind, value = pipe.recv()
                except (EOFError, OSError) as exc:
                    raise LoadError("a client process died") from exc
                if kind == "samples":
                    parts.append(value)
                else:
                    cpu_s += value
                    waiting.discard(pipe)
            now = time.monotonic()
            if observed == 0 and now >= begin:
                observe()
                observed = 1
            if observed == 1 and now >= end:
                server = observe()
                observed = 2
            if self._live and now - shown > 0.5:
                shown = now
                self._show(stage, parts, begin, end)
        if observed < 2:
            server = observe()
        if self._live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        samples = np.concatenate(parts) if parts else np.empty(0, SAMPLE)
        completed = np.count_nonzero((samples["code"] == 0) & (samples["done"] >= begin) & (samples["done"] < end))
        samples = samples[(samples["due"] >= begin) & (samples["due"] < end)]
        for name in ("due", "sent", "done"):
            samples[name] -= begin
        return Measurement(
            mode=stage.mode,
            load=stage.load,
            images_per_request=self._payload.images_per_request,
            duration_s=stage.duration_s,
            samples=np.sort(samples, order="due"),
            completed=int(completed),
            client_cpu_s=cpu_s * stage.duration_s / (stage.duration_s + stage.warmup_s),
            processes=len(self._processes),
            server=server,
        )

    def _tasks(self, stage: Stage, start: float, end: float) -> list[Task]:
        count = len(self._pipes)
        length = len(self._payload.requests)
        tasks = []
        due = None
        if stage.rate is not None:
            due = start + schedule.due(stage.arrivals, stage.rate, end - start, stage.seed)
        for index in range(count):
            callers = (stage.callers or 0) // count + (index < (stage.callers or 0) % count)
            tasks.append(
                Task(
                    start=start,
                    end=end,
                    timeout_s=stage.timeout_s,
                    due=None if due is None else due[index::count],
                    callers=callers,
                    offset=index * length // count,
                )
            )
        return tasks

    def _show(self, stage: Stage, parts: list[Any], begin: float, end: float) -> None:
        samples = np.concatenate(parts) if parts else np.empty(0, SAMPLE)
        now = time.monotonic()
        recent = samples[(samples["done"] > now - 2)]
        good = recent[recent["code"] == 0]
        took = (good["done"] - good["due"]) * 1e3
        p50, p99 = np.percentile(took, [50, 99]) if len(took) else (np.nan, np.nan)
        failed = int(np.count_nonzero(samples["code"]))
        rate = len(good) * self._payload.images_per_request / 2
        print(
            f"\r\x1b[K{stage.name:>18}  {max(0.0, end - now):4.0f} s left  {rate:7.1f} images/s  "
            f"p50 {p50:6.1f} ms  p99 {p99:6.1f} ms  errors {failed}",
            end="",
            file=sys.stderr,
            flush=True,
        )


def _entry(pipe: Connection, targets: list[str], requests: list[bytes]) -> None:
    worker.be_quiet()
    worker.main(pipe, targets, requests)


def default_processes() -> int:
    """Two, or one for every four cores."""
    return max(2, (os.cpu_count() or 2) // 4)
