"""The async client."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import grpc
import grpc.aio
import numpy as np
import numpy.typing as npt

from .base_client import BaseClient
from .core.planner import Call, Gather, Plan, Sleep, VersionStatus, check_layers
from .core.stream import READERS, Extracted, OnError, Stream, check_stream
from .exceptions import FeatserveError
from .images.inputs import Image, ImageLike, iterate, name
from .model.metadata import ModelMetadata

_T = TypeVar("_T")


class AsyncFeatureClient(BaseClient):
    """`FeatureClient` for asyncio: the same names, arguments, results and errors, awaited.

    Used by one event loop at a time; under another loop, or after a fork, it connects anew.
    """

    def _set_up(self) -> None:
        self._channel: grpc.aio.Channel | None = None
        self._home: tuple[int, asyncio.AbstractEventLoop | None] = (0, None)
        self._methods: dict[str, Callable[..., Any]] = {}

    async def __aenter__(self) -> AsyncFeatureClient:
        """Return the client."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        await self.close()

    async def close(self) -> None:
        """Close the connection; the next call opens another."""
        channel, self._channel, self._methods = self._channel, None, {}
        if channel is not None and self._home == (os.getpid(), asyncio.get_running_loop()):
            await channel.close()

    def pinned(self, version: int) -> AsyncFeatureClient:
        """See `FeatureClient.pinned`."""
        return AsyncFeatureClient(**{**self._settings, "version": version, "label": None})

    async def extract(
        self,
        images: ImageLike | Iterable[ImageLike],
        layers: str | Iterable[str] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> dict[str, npt.NDArray[np.float32]]:
        """See `FeatureClient.extract`."""
        return await self._run(self._plans.extract(images, layers, timeout_s, self._settings["concurrency"]))

    async def predict(
        self,
        inputs: Mapping[str, npt.ArrayLike],
        *,
        signature: str = "serving_default",
        output_filter: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
        """See `FeatureClient.predict`."""
        return await self._run(self._plans.predict(inputs, signature, output_filter, timeout_s))

    async def metadata(self, *, timeout_s: float | None = None) -> ModelMetadata:
        """See `FeatureClient.metadata`."""
        return await self._run(self._plans.metadata(timeout_s))

    async def status(self, *, timeout_s: float | None = None) -> list[VersionStatus]:
        """See `FeatureClient.status`."""
        return await self._run(self._plans.status(timeout_s))

    async def wait_until_ready(self, timeout_s: float) -> None:
        """See `FeatureClient.wait_until_ready`."""
        await self._run(self._plans.wait_until_ready(timeout_s))

    async def extract_iter(
        self,
        images: ImageLike | Iterable[ImageLike] | AsyncIterable[ImageLike],
        layers: str | Iterable[str] | None = None,
        *,
        concurrency: int = 8,
        ordered: bool = True,
        on_error: OnError = "raise",
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Extracted, None]:
        """See `FeatureClient.extract_iter`; the images may come from an async iterable too."""
        check_stream(concurrency, on_error)
        wanted = check_layers(layers)
        known = await self._run(self._plans.prepare(wanted, timeout_s))
        stream = Stream(
            self._plans,
            known,
            wanted,
            concurrency=concurrency,
            ordered=ordered,
            on_error=on_error,
            timeout_s=timeout_s,
        )
        inputs: asyncio.Queue[tuple[str, ImageLike] | BaseException | None] = asyncio.Queue(1)
        reading = asyncio.ensure_future(_read(images, inputs))
        next_input: asyncio.Task[tuple[str, ImageLike] | BaseException | None] | None = None
        exhausted = False
        loading: deque[tuple[str, asyncio.Task[list[Image]]]] = deque()
        running: set[asyncio.Task[list[Extracted]]] = set()
        try:
            while not stream.finished:
                if next_input is None and not exhausted and len(loading) < min(stream.room, 2 * READERS):
                    next_input = asyncio.ensure_future(inputs.get())
                waited = [*running, *(task for _, task in list(loading)[:1]), *([next_input] if next_input else [])]
                if waited:
                    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                if next_input is not None and next_input.done():
                    named, next_input = next_input.result(), None
                    if isinstance(named, BaseException):
                        raise named
                    if named is None:
                        exhausted = True
                    else:
                        load = asyncio.to_thread(self._plans.load_one, *named, known)
                        loading.append((named[0], asyncio.ensure_future(load)))
                while loading and loading[0][1].done():
                    source, loaded = loading.popleft()
                    stream.add(source, _outcome(loaded))
                stream.input_ended = exhausted and not loading
                for answered in [task for task in running if task.done()]:
                    running.discard(answered)
                    stream.sent(answered.result())
                while (piece := stream.take()) is not None:
                    running.add(asyncio.ensure_future(self._run(stream.ask(piece))))
                for result in stream.pop():
                    yield result
        finally:
            stream.closed = True
            left = [reading, *([next_input] if next_input else []), *running, *(task for _, task in loading)]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _run(self, plan: Plan[_T]) -> _T:
        try:
            step = next(plan)
            while True:
                try:
                    answer = await self._perform(step)
                except FeatserveError as exc:
                    step = plan.throw(exc)
                else:
                    step = plan.send(answer)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    async def _perform(self, step: Call | Sleep | Gather) -> Any:
        if isinstance(step, Call):
            return await self._call(step)
        if isinstance(step, Sleep):
            return await asyncio.sleep(step.seconds)
        return await self._gather(step)

    async def _gather(self, step: Gather) -> list[Any]:
        results: list[Any] = []
        window: deque[asyncio.Task[Any]] = deque()
        plans = iter(step.plans)
        try:
            # Reading and decoding of the next request's images happens in a thread: the loop goes on meanwhile.
            while (plan := await asyncio.to_thread(next, plans, None)) is not None:
                if len(window) >= step.concurrency:
                    results.append(await window[0])
                    window.popleft()
                window.append(asyncio.ensure_future(self._run(plan)))
            while window:
                results.append(await window[0])
                window.popleft()
        finally:
            for task in window:
                task.cancel()
            await asyncio.gather(*window, return_exceptions=True)
        return results

    async def _call(self, call: Call) -> bytes:
        end = time.monotonic() + call.timeout_s
        attempt = 0
        while True:
            attempt += 1
            try:
                answer: bytes = await self._method(call.method)(
                    call.request,
                    timeout=max(end - time.monotonic(), 0.001),
                    metadata=self._call_metadata(call),
                    wait_for_ready=self._settings["wait_for_ready"],
                    compression=self._compression,
                )
                return answer
            except grpc.RpcError as exc:
                pause_s = self._pushback_s(exc, attempt, end - time.monotonic())
                if pause_s is None:
                    raise self._error(call, exc.code(), exc.details()) from exc
                await asyncio.sleep(pause_s)

    def _method(self, name: str) -> Callable[..., Any]:
        home = (os.getpid(), asyncio.get_running_loop())
        if self._channel is None or self._home != home:
            self._channel, self._home, self._methods = self._connect(), home, {}
        if name not in self._methods:
            self._methods[name] = self._channel.unary_unary(name)
        return self._methods[name]

    def _connect(self) -> grpc.aio.Channel:
        target, arguments, secure = self._channel_arguments()
        interceptors = [
            each.for_asyncio() if hasattr(each, "for_asyncio") else each for each in self._settings["interceptors"]
        ]
        if secure:
            return grpc.aio.secure_channel(target, secure, options=arguments, interceptors=interceptors)
        return grpc.aio.insecure_channel(target, options=arguments, interceptors=interceptors)


async def _read(
    images: ImageLike | Iterable[ImageLike] | AsyncIterable[ImageLike],
    inputs: asyncio.Queue[tuple[str, ImageLike] | BaseException | None],
) -> None:
    # One task for all of it: what the caller's generator holds between two images may belong to the task.
    try:
        if isinstance(images, AsyncIterable):
            index = 0
            async for item in images:
                await inputs.put((name(item, index), item))
                index += 1
        else:
            for named in iterate(images):
                await inputs.put(named)
        await inputs.put(None)
    except Exception as exc:
        await inputs.put(exc)


def _outcome(loaded: asyncio.Task[list[Image]]) -> list[Image] | FeatserveError:
    try:
        return loaded.result()
    except FeatserveError as exc:
        return exc
