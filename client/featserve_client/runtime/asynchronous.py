"""Operations run by an event loop: calls are awaited, several at a time as tasks."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
import grpc.aio

from ..core.steps import Gather, Operation, Sleep, Step, UnaryCall
from ..exceptions import FeatserveError
from ..transport.endpoint import Endpoint

_T = TypeVar("_T")


class AsyncRunner:
    """Runs operations over a channel of its own, which it opens at the first call of each process and loop."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._channel: grpc.aio.Channel | None = None
        self._home: tuple[int, asyncio.AbstractEventLoop | None] = (0, None)
        self._methods: dict[str, Callable[..., Any]] = {}

    async def close(self) -> None:
        """Closes the channel; the next call opens another."""
        channel, self._channel, self._methods = self._channel, None, {}
        if channel is not None and self._home == (os.getpid(), asyncio.get_running_loop()):
            await channel.close()

    async def run(self, operation: Operation[_T]) -> _T:
        """Returns an operation's result."""
        try:
            step = next(operation)
            while True:
                try:
                    answer = await self._perform(step)
                except FeatserveError as exc:
                    step = operation.throw(exc)
                else:
                    step = operation.send(answer)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    async def _perform(self, step: Step) -> Any:
        if isinstance(step, UnaryCall):
            return await self._call(step)
        if isinstance(step, Sleep):
            return await asyncio.sleep(step.seconds)
        return await self._gather(step)

    async def _gather(self, step: Gather) -> list[Any]:
        results: list[Any] = []
        window: deque[asyncio.Task[Any]] = deque()
        operations = iter(step.operations)
        try:
            # Reading and decoding of the next request's images happens in a thread: the loop goes on meanwhile.
            while (operation := await asyncio.to_thread(next, operations, None)) is not None:
                if len(window) >= step.concurrency:
                    results.append(await window[0])
                    window.popleft()
                window.append(asyncio.ensure_future(self.run(operation)))
            while window:
                results.append(await window[0])
                window.popleft()
        finally:
            for task in window:
                task.cancel()
            await asyncio.gather(*window, return_exceptions=True)
        return results

    async def _call(self, call: UnaryCall) -> bytes:
        end = time.monotonic() + call.timeout_s
        attempt = 0
        while True:
            attempt += 1
            arguments = self._endpoint.call_arguments(call.request_id, end - time.monotonic())
            try:
                answer: bytes = await self._method(call.method)(call.request, **arguments)
                return answer
            except grpc.RpcError as exc:
                pause_s = self._endpoint.pause_s(exc, attempt, end - time.monotonic())
                if pause_s is None:
                    # In a thread, for an address that does not answer as it should is asked by hand.
                    raise await asyncio.to_thread(
                        self._endpoint.error,
                        exc.code(),
                        exc.details(),
                        request_id=call.request_id,
                        timeout_s=call.timeout_s,
                    ) from exc
                await asyncio.sleep(pause_s)

    def _method(self, name: str) -> Callable[..., Any]:
        home = (os.getpid(), asyncio.get_running_loop())
        if self._channel is None or self._home != home:
            self._channel, self._home, self._methods = self._connect(), home, {}
        if name not in self._methods:
            self._methods[name] = self._channel.unary_unary(name)
        return self._methods[name]

    def _connect(self) -> grpc.aio.Channel:
        target, options, secure = self._endpoint.channel_arguments()
        interceptors = [
            each.for_asyncio() if hasattr(each, "for_asyncio") else each for each in self._endpoint.interceptors
        ]
        if secure:
            return grpc.aio.secure_channel(target, secure, options=options, interceptors=interceptors)
        return grpc.aio.insecure_channel(target, options=options, interceptors=interceptors)
