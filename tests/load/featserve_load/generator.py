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
        return (
            f"{self.callers} caller{'s' * (self.callers != 1)}"
            if self.rate is None
            else f"{self.rate:g}/s {self.arrivals}"
        )


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a stage; what it had measured, if it was past its warm-up."""

    def __init__(self, measured: Measurement | None) -> None:
        super().__init__()
        self.measured = measured


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
        for pipe in self._pipes:
            self._receive(pipe)  # each says that it is up: what is due must not wait for imports

    def __enter__(self) -> Generator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def images_per_request(self) -> int:
        """Of the payload."""
        return self._payload.images_per_request

    @property
    def pids(self) -> list[int]:
        """The client processes."""
        return [process.pid for process in self._processes]

    def close(self) -> None:
        """Ends the processes."""
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
        """Runs a stage.

        Args:
            stage: the load.
            observe: called when the measuring begins and when it ends; the second answer is kept as `server`.

        Raises:
            LoadError: a client process died.
            Interrupted: Ctrl-C, with what was measured until then.
        """
        start = time.monotonic() + _LEAD_S
        begin, end = start + stage.warmup_s, start + stage.warmup_s + stage.duration_s
        for pipe, task in zip(self._pipes, self._tasks(stage, start, begin, end), strict=True):
            self._send(pipe, task)
        parts: list[Any] = []
        try:
            cpu_s, server = self._collect(stage, parts, begin, end, observe)
        except KeyboardInterrupt as exc:
            measured_s = min(time.monotonic(), end) - begin
            partial = self._measured(stage, parts, begin, measured_s, 0.0, {}) if measured_s > 0 else None
            raise Interrupted(partial) from exc
        return self._measured(stage, parts, begin, stage.duration_s, cpu_s, server)

    def _collect(
        self, stage: Stage, parts: list[Any], begin: float, end: float, observe: Callable[[], dict[str, Any]]
    ) -> tuple[float, dict[str, Any]]:
        """Fills `parts` with samples until all processes are done; returns their CPU seconds, and the server's use."""
        cpu_s, server = 0.0, dict[str, Any]()
        waiting = set(self._pipes)
        observed = 0
        shown = 0.0
        while waiting:
            ready = wait(list(waiting), timeout=0.1)
            for pipe in [each for each in self._pipes if each in ready]:
                kind, value = self._receive(pipe)
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
        return cpu_s, server

    def _send(self, pipe: Connection, task: Task) -> None:
        try:
            pipe.send(task)
        except OSError as exc:
            raise LoadError("a client process is gone") from exc

    def _receive(self, pipe: Connection) -> tuple[str, Any]:
        try:
            message: tuple[str, Any] = pipe.recv()
        except (EOFError, OSError) as exc:
            raise LoadError("a client process died") from exc
        return message

    def _measured(
        self, stage: Stage, parts: list[Any], begin: float, duration_s: float, cpu_s: float, server: dict[str, Any]
    ) -> Measurement:
        samples = np.concatenate(parts) if parts else np.empty(0, SAMPLE)
        for name in ("due", "sent", "done"):
            samples[name] -= begin
        answered = samples["done"][(samples["code"] == 0) & (samples["done"] >= 0) & (samples["done"] < duration_s)]
        samples = samples[(samples["due"] >= 0) & (samples["due"] < duration_s)]
        return Measurement(
            mode=stage.mode,
            load=stage.load,
            images_per_request=self._payload.images_per_request,
            duration_s=duration_s,
            samples=np.sort(samples, order="due"),
            answered=np.sort(answered),
            client_cpu_s=cpu_s,
            processes=len(self._processes),
            server=server,
        )

    def _tasks(self, stage: Stage, start: float, begin: float, end: float) -> list[Task]:
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
                    begin=begin,
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
        p50, p99 = [f"{ms:.1f}" for ms in np.percentile(took, [50, 99])] if len(took) else ("–", "–")
        failed = int(np.count_nonzero(samples["code"]))
        rate = len(good) * self._payload.images_per_request / 2
        print(
            f"\r\x1b[K{stage.name:>18}  {max(0.0, end - now):4.0f} s left  {rate:7.1f} images/s  "
            f"p50 {p50:>6} ms  p99 {p99:>6} ms  errors {failed}",
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
