"""Operations run by blocking calls: each on the thread that asks, several at a time on threads of a pool."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import grpc

from ..core.steps import Gather, Operation, Sleep, Step, UnaryCall
from ..exceptions import FeatserveError
from ..transport.endpoint import Endpoint

_T = TypeVar("_T")

_runners: weakref.WeakSet[BlockingRunner] = weakref.WeakSet()


def _renew_locks() -> None:
    for runner in list(_runners):
        runner._lock = threading.Lock()


# A thread that holds a lock while another forks is missing in the child.
os.register_at_fork(after_in_child=_renew_locks)


class CallGroup:
    """Calls of several threads that are under way, cancelled together when nobody wants their answers any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[Any] = set()
        self._cancelled = threading.Event()

    def result(self, future: Any) -> bytes:
        """Returns a call's answer."""
        with self._lock:
            self._running.add(future)
        try:
            if self._cancelled.is_set():
                future.cancel()
            return future.result()  # type: ignore[no-any-return]
        finally:
            with self._lock:
                self._running.discard(future)

    def sleep(self, seconds: float) -> None:
        """Pauses until the time is over, or the calls are cancelled."""
        self._cancelled.wait(seconds)

    def cancel(self) -> None:
        """Cancels the calls under way, and those to come."""
        self._cancelled.set()
        with self._lock:
            running = list(self._running)
        for future in running:
            future.cancel()


class BlockingRunner:
    """Runs operations over a channel of its own, which it opens at the first call, and anew after a fork."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._pid = 0
        self._methods: dict[str, Any] = {}
        _runners.add(self)

    def close(self) -> None:
        """Closes the channel; the next call opens another."""
        with self._lock:
            channel, self._channel, self._methods = self._channel, None, {}
            if channel is not None and self._pid == os.getpid():
                channel.close()

    def run(self, operation: Operation[_T], group: CallGroup | None = None) -> _T:
        """Returns an operation's result; a group's `cancel`, from another thread, ends its calls and pauses."""
        try:
            step = next(operation)
            while True:
                try:
                    answer = self._perform(step, group)
                except FeatserveError as exc:
                    step = operation.throw(exc)
                else:
                    step = operation.send(answer)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    def _perform(self, step: Step, group: CallGroup | None) -> Any:
        if isinstance(step, UnaryCall):
            return self._call(step, group)
        if isinstance(step, Sleep):
            return _sleep(step.seconds, group)
        return self._gather(step)

    def _gather(self, step: Gather) -> list[Any]:
        operations = iter(step.operations)
        first, second = next(operations, None), next(operations, None)
        if first is None:
            return []
        if second is None:
            return [self.run(first)]
        results: list[Any] = []
        window: deque[Future[Any]] = deque()
        group = CallGroup()
        with ThreadPoolExecutor(step.concurrency, "featserve") as pool:
            try:
                window.extend((pool.submit(self.run, first, group), pool.submit(self.run, second, group)))
                for operation in operations:
                    if len(window) > step.concurrency:
                        results.append(window.popleft().result())
                    window.append(pool.submit(self.run, operation, group))
                results.extend(future.result() for future in window)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                group.cancel()
                raise
        return results

    def _call(self, call: UnaryCall, group: CallGroup | None) -> bytes:
        end = time.monotonic() + call.timeout_s
        attempt = 0
        while True:
            attempt += 1
            method = self._method(call.method)
            arguments = self._endpoint.call_arguments(call.request_id, end - time.monotonic())
            try:
                if group is None:
                    return method(call.request, **arguments)  # type: ignore[no-any-return]
                return group.result(method.future(call.request, **arguments))
            except grpc.RpcError as exc:
                pause_s = self._endpoint.pause_s(exc, attempt, end - time.monotonic())
                if pause_s is None:
                    raise self._error(call, exc.code(), exc.details()) from exc
                _sleep(pause_s, group)
            except grpc.FutureCancelledError as exc:
                raise self._error(call, grpc.StatusCode.CANCELLED, "the connection was closed") from exc

    def _error(self, call: UnaryCall, code: grpc.StatusCode, details: str | None) -> FeatserveError:
        return self._endpoint.error(code, details, request_id=call.request_id, timeout_s=call.timeout_s)

    def _method(self, name: str) -> Any:
        with self._lock:
            if self._channel is None or self._pid != os.getpid():
                self._channel, self._pid, self._methods = self._connect(), os.getpid(), {}
            if name not in self._methods:
                self._methods[name] = self._channel.unary_unary(name)
            return self._methods[name]

    def _connect(self) -> grpc.Channel:
        target, options, secure = self._endpoint.channel_arguments()
        channel = (
            grpc.secure_channel(target, secure, options=options)
            if secure
            else grpc.insecure_channel(target, options=options)
        )
        interceptors = self._endpoint.interceptors
        return grpc.intercept_channel(channel, *interceptors) if interceptors else channel


def _sleep(seconds: float, group: CallGroup | None) -> None:
    if group is None:
        time.sleep(seconds)
    else:
        group.sleep(seconds)
