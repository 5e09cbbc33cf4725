"""The sync client."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, TypeVar

import grpc
import numpy as np
import numpy.typing as npt

from .base_client import BaseClient
from .core.planner import Call, Gather, Plan, Sleep, VersionStatus, check_layers
from .core.stream import READERS, Extracted, OnError, Stream, check_stream
from .exceptions import FeatserveError
from .images.inputs import Image, ImageLike, iterate
from .model.metadata import ModelMetadata

_T = TypeVar("_T")

_clients: weakref.WeakSet[FeatureClient] = weakref.WeakSet()


def _renew_locks() -> None:
    for client in list(_clients):
        client._lock = threading.Lock()


# A thread that holds a lock while another forks is missing in the child.
os.register_at_fork(after_in_child=_renew_locks)


class FeatureClient(BaseClient):
    """Asks one model of a server that speaks TensorFlow Serving's gRPC API.

    Safe to share between threads, to pickle, and to use after a fork. Connects at the first call; usable as a context
    manager, which closes the connection.
    """

    def _set_up(self) -> None:
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._pid = 0
        self._methods: dict[str, Any] = {}
        _clients.add(self)

    def __enter__(self) -> FeatureClient:
        """Return the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        with self._lock:
            channel, self._channel, self._methods = self._channel, None, {}
            if channel is not None and self._pid == os.getpid():
                channel.close()

    def pinned(self, version: int) -> FeatureClient:
        """Return another client that asks only this version."""
        return FeatureClient(**{**self._settings, "version": version, "label": None})

    def extract(
        self,
        images: ImageLike | Iterable[ImageLike],
        layers: str | Iterable[str] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Return the activations of images.

        Args:
            images: One or many, mixed as you like: paths, encoded bytes, binary files (from their beginning), PIL
                images, arrays
                `(H, W)`, `(H, W, C)` or `(N, H, W, C)` with 1, 3 (RGB) or 4 channels: uint8 of any size, or float
                0..255 of the network's own size.
            layers: The layers wanted, all if None.
            timeout_s: Seconds each request may take.

        Returns:
            For each layer an array `(N, ...)` float32, one row per image in the order given.

        Raises:
            InvalidImageError: An input is no usable image.
            InvalidRequest: The model lacks a layer, takes no such images, or cannot decode one.
            ModelNotFound: The server has no such model, version or label.
            ServerOverloaded: The server takes no more requests.
            ServerError: Any other refusal.
            ConnectError: No server at the address.
            DeadlineExceeded: No answer in time.
            MessageTooLarge: A message is over a limit.
            ResponseError: The answer is not what was asked for.
            ConfigError: There are no images, or `layers` is empty.
        """
        return self._run(self._plans.extract(images, layers, timeout_s, self._settings["concurrency"]))

    def predict(
        self,
        inputs: Mapping[str, npt.ArrayLike],
        *,
        signature: str = "serving_default",
        output_filter: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
        """Call any signature of any model.

        Args:
            inputs: Arrays by input name; bytes and str travel as strings.
            signature: The signature's name.
            output_filter: The outputs wanted, all if empty.
            timeout_s: Seconds the call may take.

        Returns:
            Arrays by output name; strings as an object array of bytes.

        Raises:
            InvalidRequest: The model has no such signature or output, or refuses the inputs.
            FeatserveError: As for `extract`.
        """
        return self._run(self._plans.predict(inputs, signature, output_filter, timeout_s))

    def metadata(self, *, timeout_s: float | None = None) -> ModelMetadata:
        """Return the model's version, signatures and manifest.

        Raises:
            ModelNotFound: The server has no such model, version or label.
            FeatserveError: As for `extract`.
        """
        return self._run(self._plans.metadata(timeout_s))

    def status(self, *, timeout_s: float | None = None) -> list[VersionStatus]:
        """Return the state of each version of the model, ascending.

        Raises:
            ModelNotFound: The server has no such model.
            FeatserveError: As for `extract`.
        """
        return self._run(self._plans.status(timeout_s))

    def wait_until_ready(self, timeout_s: float) -> None:
        """Return once the model answers requests.

        Args:
            timeout_s: Seconds to wait.

        Raises:
            DeadlineExceeded: It does not; the text says what it lacked.
        """
        self._run(self._plans.wait_until_ready(timeout_s))

    def extract_iter(
        self,
        images: ImageLike | Iterable[ImageLike],
        layers: str | Iterable[str] | None = None,
        *,
        concurrency: int = 8,
        ordered: bool = True,
        on_error: OnError = "raise",
        timeout_s: float | None = None,
    ) -> Generator[Extracted, None, None]:
        """Yield the activations of images one by one, from any number of them, in bounded memory.

        Requests overlap; reading goes no further ahead than results are taken. A server that is away or overloaded is
        asked again for a minute.

        Args:
            images: As for `extract`; a generator is read as needed.
            layers: The layers wanted, all if None.
            concurrency: Requests in flight at most; fewer are used if more would only wait at the server.
            ordered: Whether results come in the order of the input, or as they are ready.
            on_error: Whether an image's own error is raised, or comes as `Extracted.error` and the rest goes on.
            timeout_s: Seconds each request may take.

        Raises:
            FeatserveError: As for `extract`; with `on_error="return"` only those that are not about one image.
        """
        check_stream(concurrency, on_error)
        return self._stream(images, check_layers(layers), concurrency, ordered, on_error, timeout_s)

    def _stream(
        self,
        images: ImageLike | Iterable[ImageLike],
        layers: Sequence[str] | None,
        concurrency: int,
        ordered: bool,
        on_error: OnError,
        timeout_s: float | None,
    ) -> Generator[Extracted, None, None]:
        known = self._run(self._plans.prepare(layers, timeout_s))
        stream = Stream(
            self._plans,
            known,
            layers,
            concurrency=concurrency,
            ordered=ordered,
            on_error=on_error,
            timeout_s=timeout_s,
        )
        inputs = iterate(images)
        exhausted = False
        loading: deque[tuple[str, Future[list[Image]]]] = deque()
        running: set[Future[list[Extracted]]] = set()
        calls = _Calls()
        readers = ThreadPoolExecutor(READERS, "featserve-read")
        senders = ThreadPoolExecutor(concurrency, "featserve-send")

        def hungry() -> bool:
            return not exhausted and len(loading) < stream.room

        try:
            while not stream.finished:
                while hungry():
                    named = next(inputs, None)
                    if named is None:
                        exhausted = True
                    else:
                        loading.append((named[0], readers.submit(self._plans.load_one, *named, known)))
                    if loading and loading[0][1].done() or any(future.done() for future in running):
                        break  # the next input may be long in coming
                while loading and loading[0][1].done():
                    source, loaded = loading.popleft()
                    stream.add(source, _outcome(loaded))
                stream.input_ended = exhausted and not loading
                while (piece := stream.take()) is not None:
                    running.add(senders.submit(self._run, stream.ask(piece), calls))
                yield from stream.pop()
                waited: list[Future[Any]] = [*running, *(future for _, future in list(loading)[:1])]
                # Of nothing: returns at once.
                done, _ = wait(waited, timeout=0 if hungry() else None, return_when=FIRST_COMPLETED)
                for answered in [future for future in running if future in done]:
                    running.discard(answered)
                    stream.sent(answered.result())
        finally:
            stream.closed = True
            readers.shutdown(wait=False, cancel_futures=True)
            senders.shutdown(wait=False, cancel_futures=True)
            calls.cancel()

    def _run(self, plan: Plan[_T], calls: _Calls | None = None) -> _T:
        try:
            step = next(plan)
            while True:
                try:
                    answer = self._perform(step, calls)
                except FeatserveError as exc:
                    step = plan.throw(exc)
                else:
                    step = plan.send(answer)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    def _perform(self, step: Call | Sleep | Gather, calls: _Calls | None) -> Any:
        if isinstance(step, Call):
            return self._call(step, calls)
        if isinstance(step, Sleep):
            return _sleep(step.seconds, calls)
        return self._gather(step)

    def _gather(self, step: Gather) -> list[Any]:
        plans = iter(step.plans)
        first, second = next(plans, None), next(plans, None)
        if first is None:
            return []
        if second is None:
            return [self._run(first)]
        results: list[Any] = []
        window: deque[Future[Any]] = deque()
        calls = _Calls()
        with ThreadPoolExecutor(step.concurrency, "featserve") as pool:
            try:
                window.extend((pool.submit(self._run, first, calls), pool.submit(self._run, second, calls)))
                for plan in plans:
                    if len(window) > step.concurrency:
                        results.append(window.popleft().result())
                    window.append(pool.submit(self._run, plan, calls))
                results.extend(future.result() for future in window)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                calls.cancel()
                raise
        return results

    def _call(self, call: Call, calls: _Calls | None) -> bytes:
        end = time.monotonic() + call.timeout_s
        attempt = 0
        while True:
            attempt += 1
            method = self._method(call.method)
            arguments = {
                "timeout": max(end - time.monotonic(), 0.001),
                "metadata": self._call_metadata(call),
                "wait_for_ready": self._settings["wait_for_ready"],
                "compression": self._compression,
            }
            try:
                if calls is None:
                    return method(call.request, **arguments)  # type: ignore[no-any-return]
                return calls.result(method.future(call.request, **arguments))
            except grpc.RpcError as exc:
                pause_s = self._pushback_s(exc, attempt, end - time.monotonic())
                if pause_s is None:
                    raise self._error(call, exc.code(), exc.details()) from exc
                _sleep(pause_s, calls)
            except grpc.FutureCancelledError as exc:
                raise self._error(call, grpc.StatusCode.CANCELLED, "the connection was closed") from exc

    def _method(self, name: str) -> Any:
        with self._lock:
            if self._channel is None or self._pid != os.getpid():
                self._channel, self._pid, self._methods = self._connect(), os.getpid(), {}
            if name not in self._methods:
                self._methods[name] = self._channel.unary_unary(name)
            return self._methods[name]

    def _connect(self) -> grpc.Channel:
        target, arguments, secure = self._channel_arguments()
        channel = (
            grpc.secure_channel(target, secure, options=arguments)
            if secure
            else grpc.insecure_channel(target, options=arguments)
        )
        interceptors = self._settings["interceptors"]
        return grpc.intercept_channel(channel, *interceptors) if interceptors else channel


class _Calls:
    """Calls of other threads that are under way, to be cancelled when nobody wants their answers any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[Any] = set()
        self.cancelled = threading.Event()

    def result(self, future: Any) -> bytes:
        """Return a call's answer."""
        with self._lock:
            self._running.add(future)
        try:
            if self.cancelled.is_set():
                future.cancel()
            return future.result()  # type: ignore[no-any-return]
        finally:
            with self._lock:
                self._running.discard(future)

    def cancel(self) -> None:
        """Cancel them, and those to come."""
        self.cancelled.set()
        with self._lock:
            running = list(self._running)
        for future in running:
            future.cancel()


def _sleep(seconds: float, calls: _Calls | None) -> None:
    if calls is None:
        time.sleep(seconds)
    else:
        calls.cancelled.wait(seconds)


def _outcome(loaded: Future[list[Image]]) -> list[Image] | FeatserveError:
    try:
        return loaded.result()
    except FeatserveError as exc:
        return exc
