"""One client process: sends what is due, times it, and reports samples."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import grpc
import grpc.aio
import numpy as np
import numpy.typing as npt

from .payload import PREDICT

#: Not a gRPC code: the generator itself had too many requests open, or was too late, to send another.
NOT_SENT = 100
#: Seconds past a stage's end at which what is not sent yet is given up.
PATIENCE_S = 1.0
#: Requests open at once in one process.
MAX_OPEN = 8192

SAMPLE = np.dtype([("due", "f8"), ("sent", "f8"), ("done", "f8"), ("code", "i2")])


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one process does in one stage. Times are those of `time.monotonic`, which all processes share."""

    start: float
    #: From here to `end` is measured; before it is warm-up.
    begin: float
    end: float
    timeout_s: float
    #: Open loop: absolute times. Closed loop: None, and `callers` say how many.
    due: npt.NDArray[np.float64] | None = None
    callers: int = 0
    offset: int = 0


def main(pipe: Connection, targets: list[str], requests: list[bytes]) -> None:
    """Serves the parent until it closes the pipe."""
    asyncio.run(_Worker(pipe, targets, requests).run())


class _Worker:
    def __init__(self, pipe: Connection, targets: list[str], requests: list[bytes]) -> None:
        self._pipe = pipe
        self._targets = targets
        self._requests = requests
        self._samples: list[tuple[float, float, float, int]] = []
        self._open = 0

    async def run(self) -> None:
        # Retries would hide failures, and a pooled channel would put all processes' calls behind one connection.
        options = [
            ("grpc.enable_retries", 0),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        channels = [grpc.aio.insecure_channel(target, options=options) for target in self._targets]
        self._calls = [channel.unary_unary(PREDICT) for channel in channels]
        self._pipe.send(("ready", None))
        try:
            while True:
                await asyncio.to_thread(self._pipe.poll, None)
                task = self._pipe.recv()
                if task is None:
                    return
                await self._perform(task)
        except (EOFError, OSError):
            return
        finally:
            for channel in channels:
                await channel.close()

    async def _perform(self, task: Task) -> None:
        turn = itertools.count(task.offset)
        reporter = asyncio.create_task(self._report())
        clock = asyncio.create_task(_cpu_between(task.begin, task.end))
        if task.due is None:
            await _sleep_until(task.start)
            await asyncio.gather(*(self._caller(task, turn) for _ in range(task.callers)))
        else:
            await self._open_loop(task, task.due, turn)
        cpu = await clock
        reporter.cancel()
        self._flush()
        self._pipe.send(("done", cpu))

    async def _open_loop(self, task: Task, due: npt.NDArray[np.float64], turn: Any) -> None:
        running = set()
        for place, moment in enumerate(due.tolist()):
            await _sleep_until(moment)
            if (now := time.monotonic()) > task.end + PATIENCE_S:
                self._pipe.send(("samples", _given_up(due[place:], now)))
                break
            if self._open >= MAX_OPEN:
                self._samples.append((moment, now, now, NOT_SENT))
                continue
            call = asyncio.create_task(self._ask(moment, task.timeout_s, next(turn)))
            running.add(call)
            call.add_done_callback(running.discard)
        if running:
            await asyncio.wait(running)

    async def _caller(self, task: Task, turn: Any) -> None:
        while (now := time.monotonic()) < task.end:
            if not await self._ask(now, task.timeout_s, next(turn)):
                await asyncio.sleep(0.01)  # a refusal costs nothing: without a pause it would be a flood

    async def _ask(self, moment: float, timeout_s: float, turn: int) -> bool:
        self._open += 1
        sent = time.monotonic()
        code = 0
        try:
            await self._calls[turn % len(self._calls)](self._requests[turn % len(self._requests)], timeout=timeout_s)
        except grpc.aio.AioRpcError as exc:
            code = exc.code().value[0]
        self._open -= 1
        self._samples.append((moment, sent, time.monotonic(), code))
        return code == 0

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(0.25)
            self._flush()

    def _flush(self) -> None:
        if self._samples:
            samples, self._samples = self._samples, []
            self._pipe.send(("samples", np.array(samples, SAMPLE)))


def _given_up(due: npt.NDArray[np.float64], now: float) -> npt.NDArray[Any]:
    samples = np.empty(len(due), SAMPLE)
    samples["due"], samples["sent"], samples["done"], samples["code"] = due, now, now, NOT_SENT
    return samples


async def _cpu_between(begin: float, end: float) -> float:
    """Returns the CPU seconds that this process used from `begin` to `end`."""
    await _sleep_until(begin)
    before = time.process_time()
    await _sleep_until(end)
    return time.process_time() - before


async def _sleep_until(moment: float) -> None:
    left = moment - time.monotonic()
    # Even when late: the loop must get its turn to receive answers.
    await asyncio.sleep(max(left, 0))


def name_of(code: int) -> str:
    """Returns a code's name."""
    if code == NOT_SENT:
        return "NOT_SENT"
    return next((status.name for status in grpc.StatusCode if status.value[0] == code), str(code))


def be_quiet() -> None:
    """Leaves Ctrl-C to the parent, which asks for what was measured."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
